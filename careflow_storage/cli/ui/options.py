"""Arguments and options that several commands share, and the sections of ``--help``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from careflow_storage.cli.ui.completion import complete_keys, complete_version_ids

FILES = "Files"
"""The sections of ``--help`` in which the commands are listed."""
VERSIONS = "Versions and unfinished uploads"
BULK = "Many objects"
BUCKET = "The bucket and its rules"
ACCOUNT = "Keys, cost and health"
LOCAL = "Try it out"

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")
]
Key = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="The key of a file in the bucket.",
        show_default=False,
        autocompletion=complete_keys,
    ),
]
Prefix = Annotated[
    str,
    typer.Argument(
        metavar="PREFIX",
        help="Only keys that begin with this prefix.",
        show_default=False,
        autocompletion=complete_keys,
    ),
]
VersionId = Annotated[
    str | None,
    typer.Option(
        "--version-id",
        metavar="ID",
        help="Use this version instead of the newest.",
        show_default=False,
        autocompletion=complete_version_ids,
    ),
]
CustomerKeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Encrypt with your own key (SSE-C): a file with 32 bytes, or their base64.",
        show_default=False,
    ),
]
RulesFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="Rules as JSON, in the format of S3, B2 or `show --json`; - for stdin.",
        show_default=False,
    ),
]
