"""Options that many commands share, and how sizes are read."""

from __future__ import annotations

import re
from typing import Annotated

import typer

_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_BINARY = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4}

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The key of a file in the bucket.")]
Prefix = Annotated[str, typer.Argument(metavar="[PREFIX]", help="Only keys that begin so.")]
VersionId = Annotated[
    str | None, typer.Option("--version-id", metavar="ID", help="This version, not the newest.")
]


def parse_size(text: str) -> int:
    """Read a size such as 64MiB, 100MB or 5000 as bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a size such as 64MiB, 100MB or 5000.")
    unit = (match[2] or "").capitalize()
    size = int(float(match[1]) * (_UNITS | _BINARY)[unit])
    if size < 1:
        raise typer.BadParameter("The size must be at least one byte.")
    return size
