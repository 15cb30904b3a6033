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

    # Moved. Type checkers see these names at their old path, too, by the stubs beside this file.
    from careflow_storage.admin.doctor import Diagnosis as Diagnosis
    from careflow_storage.admin.doctor import Finding as Finding
    from careflow_storage.admin.doctor import diagnose as diagnose
    from careflow_storage.admin.keys import ApplicationKeys as ApplicationKeys
    from careflow_storage.admin.keys import CreatedKey as CreatedKey
    from careflow_storage.admin.keys import KeyInfo as KeyInfo
    from careflow_storage.admin.keys import RotationResult as RotationResult
    from careflow_storage.admin.migrate import Carried as Carried
    from careflow_storage.admin.migrate import OldCodeFinding as OldCodeFinding
    from careflow_storage.admin.migrate import OldCodeReport as OldCodeReport
    from careflow_storage.admin.migrate import Translation as Translation
    from careflow_storage.admin.migrate import Unresolved as Unresolved
    from careflow_storage.admin.migrate import check_old_code as check_old_code
    from careflow_storage.admin.migrate import translate_environment as translate_environment
    from careflow_storage.admin.migrate import write_translation as write_translation
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
    from careflow_storage.admin.usage import AWS_S3 as AWS_S3
    from careflow_storage.admin.usage import B2_GUIDE as B2_GUIDE
    from careflow_storage.admin.usage import B2_TODAY as B2_TODAY
    from careflow_storage.admin.usage import Alert as Alert
    from careflow_storage.admin.usage import CallPrice as CallPrice
    from careflow_storage.admin.usage import Comparison as Comparison
    from careflow_storage.admin.usage import CostEstimate as CostEstimate
    from careflow_storage.admin.usage import CostItem as CostItem
    from careflow_storage.admin.usage import Prices as Prices
    from careflow_storage.admin.usage import Stored as Stored
    from careflow_storage.admin.usage import Thresholds as Thresholds
    from careflow_storage.admin.usage import UsageReport as UsageReport
    from careflow_storage.admin.usage import check_thresholds as check_thresholds
    from careflow_storage.admin.usage import classes as classes
    from careflow_storage.admin.usage import compare as compare
    from careflow_storage.admin.usage import draw_growth as draw_growth
    from careflow_storage.admin.usage import estimate as estimate
    from careflow_storage.admin.usage import load_prices as load_prices
    from careflow_storage.admin.usage import watch as watch
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
