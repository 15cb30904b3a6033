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

from careflow_storage.admin.admin import StorageAdmin
from careflow_storage.admin.buckets import BucketInfo
from careflow_storage.admin.copies import CopyResult
from careflow_storage.admin.cors_models import CorsCheck, CorsMethod, CorsRule, Preflight
from careflow_storage.admin.doctor import Diagnosis, Finding, diagnose
from careflow_storage.admin.keys import (
    ApplicationKeys,
    CreatedKey,
    KeyInfo,
    RotationResult,
)
from careflow_storage.admin.lifecycle_rules import LifecycleRule
from careflow_storage.admin.lock import DefaultRetention, ObjectLock
from careflow_storage.admin.migrate import (
    Carried,
    OldCodeFinding,
    OldCodeReport,
    Translation,
    Unresolved,
    check_old_code,
    translate_environment,
    write_translation,
)
from careflow_storage.admin.usage import (
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
from careflow_storage.admin.versions import RestoreResult, VersionListing
from careflow_storage.models import FileVersion

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
