"""Application keys, by B2's native API: create, list, delete, rotate. The extra ``admin``."""

from __future__ import annotations

from careflow_storage.admin.keys.keys import ApplicationKeys
from careflow_storage.admin.keys.models import CreatedKey, KeyInfo, RotationResult
from careflow_storage.admin.keys.presets import CAPABILITIES, PRESETS, Preset

__all__ = [
    "CAPABILITIES",
    "PRESETS",
    "ApplicationKeys",
    "CreatedKey",
    "KeyInfo",
    "Preset",
    "RotationResult",
]
