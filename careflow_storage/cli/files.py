"""Commands for files: upload, download, cat, ls, info, exists, url, rm."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
