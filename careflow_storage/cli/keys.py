"""Commands for application keys: create, list, rotate, delete."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
