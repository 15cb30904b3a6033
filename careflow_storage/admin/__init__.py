"""Administer the bucket: what Backblaze's console does, from Python.

::

    async with BackblazeStorage() as storage:
        await storage.admin.allow_browser_uploads(["https://app.example"])
        await storage.admin.expire_recordings(hide_after_days=365, erase_after_days=30)
        print(await storage.admin.usage())
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from careflow_storage._lazy import lazy_exports

if TYPE_CHECKING:
    from careflow_storage.admin.client import StorageAdmin
    from careflow_storage.admin.models import (
        BucketInfo,
        CopyResult,
        CorsCheck,
        CorsMethod,
        CorsPreset,
        CorsRule,
        DefaultRetention,
        LifecycleRule,
        ObjectLock,
        Preflight,
        RestoreResult,
    )
    from careflow_storage.admin.version_listing import VersionListing
    from careflow_storage.models import FileVersion
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "careflow_storage.admin.client": ("StorageAdmin",),
            "careflow_storage.admin.models": (
                *("BucketInfo", "CopyResult", "CorsCheck", "CorsMethod", "CorsPreset", "CorsRule"),
                *("DefaultRetention", "LifecycleRule", "ObjectLock", "Preflight", "RestoreResult"),
            ),
            "careflow_storage.admin.version_listing": ("VersionListing",),
            "careflow_storage.models": ("FileVersion",),
        },
        moved={
            "careflow_storage.doctor": ("Diagnosis", "Finding", "diagnose"),
            "careflow_storage.keys": (
                *("ApplicationKeys", "CreatedKey", "KeyInfo", "RotationResult"),
            ),
            "careflow_storage.migrate": (
                *("Carried", "OldCodeFinding", "OldCodeReport", "Translation", "Unresolved"),
                *("check_old_code", "translate_environment", "write_translation"),
            ),
            "careflow_storage.usage": (
                *("AWS_S3", "B2_GUIDE", "B2_TODAY", "Alert", "CallPrice", "Comparison"),
                *("CostEstimate", "CostItem", "Prices", "Stored", "Thresholds", "UsageReport"),
                *("check_thresholds", "classes", "compare", "draw_growth", "estimate"),
                *("load_prices", "watch"),
            ),
        },
    )

__all__ = [
    "BucketInfo",
    "CopyResult",
    "CorsCheck",
    "CorsMethod",
    "CorsPreset",
    "CorsRule",
    "DefaultRetention",
    "FileVersion",
    "LifecycleRule",
    "ObjectLock",
    "Preflight",
    "RestoreResult",
    "StorageAdmin",
    "VersionListing",
]
