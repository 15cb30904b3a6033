"""Coming from AWS S3: the settings, and code that was written for it."""

from __future__ import annotations

from careflow_storage.admin.migrate.environment import (
    Carried,
    Translation,
    Unresolved,
    translate_environment,
    write_translation,
)
from careflow_storage.admin.migrate.old_code import OldCodeReport, check_old_code
from careflow_storage.admin.migrate.trial import OldCodeFinding

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
