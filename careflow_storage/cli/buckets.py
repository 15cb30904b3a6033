"""Commands for buckets: list, create, info, delete, encryption."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
