"""Create, list, delete and rotate application keys. Needs the extra ``admin``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from careflow_storage._lazy import lazy_exports

if TYPE_CHECKING:
    from careflow_storage.keys.client import ApplicationKeys
    from careflow_storage.keys.models import CreatedKey, KeyInfo, RotationResult
    from careflow_storage.keys.presets import CAPABILITIES, PRESETS, Preset
    from careflow_storage.keys.sinks import Deliver
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "careflow_storage.keys.client": ("ApplicationKeys",),
            "careflow_storage.keys.models": ("CreatedKey", "KeyInfo", "RotationResult"),
            "careflow_storage.keys.sinks": ("Deliver",),
            "careflow_storage.keys.presets": ("CAPABILITIES", "PRESETS", "Preset"),
        },
    )

__all__ = [
    "CAPABILITIES",
    "PRESETS",
    "ApplicationKeys",
    "CreatedKey",
    "Deliver",
    "KeyInfo",
    "Preset",
    "RotationResult",
]
