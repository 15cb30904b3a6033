"""Commands for versions and copies: versions, restore, cp, mv."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
