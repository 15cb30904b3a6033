"""Moved to `careflow_storage.doctor`; importing from here warns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from careflow_storage._lazy import moved_package

__getattr__: Callable[[str], Any] = moved_package(__name__, "careflow_storage.doctor")
