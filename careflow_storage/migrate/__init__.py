"""Migrate from AWS S3: translate settings, and check existing code."""

from __future__ import annotations

from careflow_storage.migrate.environment import (
    Carried,
    Translation,
    Unresolved,
    translate_environment,
    write_translation,
)
from careflow_storage.migrate.harness import OldCodeFinding
from careflow_storage.migrate.runner import OldCodeReport, check_old_code

__all__ = [
    "Carried",
    "OldCodeFinding",
    "OldCodeReport",
    "Translation",
    "Unresolved",
    "check_old_code",
    "translate_environment",
    "write_translation",
]
