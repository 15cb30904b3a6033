"""Options that many commands share, how sizes and times are read, and examples for --help."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

FILES = "Files"
"""The panels of ``--help``, in which the commands stand."""
VERSIONS = "Versions and unfinished uploads"
BUCKET = "The bucket and its rules"
ACCOUNT = "Keys, cost and health"
LOCAL = "Try it"

_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_BINARY = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4}
_TIMES = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Key = Annotated[
    str, typer.Argument(metavar="KEY", help="The key of a file in the bucket.", show_default=False)
]
Prefix = Annotated[
    str,
    typer.Argument(metavar="PREFIX", help="Only keys that begin so.", show_default=False),
]
VersionId = Annotated[
    str | None,
    typer.Option(
        "--version-id", metavar="ID", help="This version, not the newest.", show_default=False
    ),
]

CustomerKeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="The key of SSE-C: 32 bytes, or their base64, in this file.",
        show_default=False,
    ),
]


def examples(*lines: str) -> str:
    """Make the end of a command's ``--help``, as ``epilog``: how it is typed."""
    commands = "\n\n".join(f"[dim]$[/] {escape(line)}" for line in lines)
    return f"[bold]Examples[/]\n\n{commands}"


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


def parse_time(text: str) -> timedelta:
    """Read a length of time such as 90s, 15m, 12h, 1d or 2w."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)\s*([smhdw])", text.strip().lower())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a time such as 90s, 15m, 12h, 1d or 2w.")
    return timedelta(**{_TIMES[match[2]]: float(match[1])})
