"""Moved to `careflow_storage.usage`. Importing from here warns; the stub has the types."""

from __future__ import annotations

from careflow_storage._lazy import moved_package

__getattr__ = moved_package(__name__, "careflow_storage.usage")
