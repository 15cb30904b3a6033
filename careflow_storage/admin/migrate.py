"""Moved to `careflow_storage.migrate`; importing from here warns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from careflow_storage._lazy import moved_package

if TYPE_CHECKING:
    from careflow_storage.migrate import *  # noqa: F403  # type checkers see the names here, too
else:
    __getattr__ = moved_package(__name__, "careflow_storage.migrate")
