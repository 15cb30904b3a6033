"""The bucket itself: what a person does in Backblaze's console, from Python.

::

    async with BackblazeStorage() as storage:
        await storage.admin.allow_browser_uploads(["https://app.example"])
        await storage.admin.expire_recordings(hide_after_days=365, erase_after_days=30)
        print(await storage.admin.usage())

Everything here goes through the S3 API but for `ApplicationKeys`, for which B2 has its native
API only (the extra ``admin``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from careflow_storage._lazy import lazy_exports

if TYPE_CHECKING:
    from careflow_storage.admin.buckets import BucketInfo
    from careflow_storage.admin.client import StorageAdmin
    from careflow_storage.admin.copy import CopyResult
    from careflow_storage.admin.cors_models import CorsCheck, CorsMethod, CorsRule, Preflight
    from careflow_storage.admin.lifecycle import LifecycleRule
    from careflow_storage.admin.object_lock import DefaultRetention, ObjectLock
    from careflow_storage.admin.version_listing import VersionListing
    from careflow_storage.admin.versions import RestoreResult
    from careflow_storage.doctor import Diagnosis, Finding, diagnose
    from careflow_storage.keys import (
        ApplicationKeys,
        CreatedKey,
        KeyInfo,
        RotationResult,
    )
    from careflow_storage.migrate import (
        Carried,
        OldCodeFinding,
        OldCodeReport,
        Translation,
        Unresolved,
        check_old_code,
        translate_environment,
        write_translation,
    )
    from careflow_storage.models import FileVersion
    from careflow_storage.usage import (
        AWS_S3,
        B2_GUIDE,
        B2_TODAY,
        Alert,
        CallPrice,
        Comparison,
        CostEstimate,
        CostItem,
        Prices,
        Stored,
        Thresholds,
        UsageReport,
        check_thresholds,
        classes,
        compare,
        draw_growth,
        estimate,
        load_prices,
        watch,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "careflow_storage.admin.client": ("StorageAdmin",),
            "careflow_storage.admin.buckets": ("BucketInfo",),
            "careflow_storage.admin.copy": ("CopyResult",),
            "careflow_storage.admin.cors_models": (
                "CorsCheck",
                "CorsMethod",
                "CorsRule",
                "Preflight",
            ),
            "careflow_storage.doctor": ("Diagnosis", "Finding", "diagnose"),
            "careflow_storage.keys": (
                "ApplicationKeys",
                "CreatedKey",
                "KeyInfo",
                "RotationResult",
            ),
            "careflow_storage.admin.lifecycle": ("LifecycleRule",),
            "careflow_storage.admin.object_lock": ("DefaultRetention", "ObjectLock"),
            "careflow_storage.migrate": (
                "Carried",
                "OldCodeFinding",
                "OldCodeReport",
                "Translation",
                "Unresolved",
                "check_old_code",
                "translate_environment",
                "write_translation",
            ),
            "careflow_storage.usage": (
                "AWS_S3",
                "B2_GUIDE",
                "B2_TODAY",
                "Alert",
                "CallPrice",
                "Comparison",
                "CostEstimate",
                "CostItem",
                "Prices",
                "Stored",
                "Thresholds",
                "UsageReport",
                "check_thresholds",
                "classes",
                "compare",
                "draw_growth",
                "estimate",
                "load_prices",
                "watch",
            ),
            "careflow_storage.admin.version_listing": ("VersionListing",),
            "careflow_storage.admin.versions": ("RestoreResult",),
            "careflow_storage.models": ("FileVersion",),
        },
    )

__all__ = [
    "AWS_S3",
    "B2_GUIDE",
    "B2_TODAY",
    "Alert",
    "ApplicationKeys",
    "BucketInfo",
    "CallPrice",
    "Carried",
    "Comparison",
    "CopyResult",
    "CorsCheck",
    "CorsMethod",
    "CorsRule",
    "CostEstimate",
    "CostItem",
    "CreatedKey",
    "DefaultRetention",
    "Diagnosis",
    "FileVersion",
    "Finding",
    "KeyInfo",
    "LifecycleRule",
    "ObjectLock",
    "OldCodeFinding",
    "OldCodeReport",
    "Preflight",
    "Prices",
    "RestoreResult",
    "RotationResult",
    "StorageAdmin",
    "Stored",
    "Thresholds",
    "Translation",
    "Unresolved",
    "UsageReport",
    "VersionListing",
    "check_old_code",
    "check_thresholds",
    "classes",
    "compare",
    "diagnose",
    "draw_growth",
    "estimate",
    "load_prices",
    "translate_environment",
    "watch",
    "write_translation",
]
