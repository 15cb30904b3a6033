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
from careflow_storage.admin.cors import CorsCheck, CorsMethod, CorsRule, Preflight
from careflow_storage.admin.doctor import Diagnosis, Finding, diagnose
from careflow_storage.admin.keys import ApplicationKeys, CreatedKey, KeyInfo, RotationResult
from careflow_storage.admin.lifecycle_rules import LifecycleRule
from careflow_storage.admin.lock import DefaultRetention, ObjectLock
from careflow_storage.admin.usage import Stored, UsageReport
from careflow_storage.admin.versions import FileVersion, RestoreResult, VersionListing

__all__ = [
    "ApplicationKeys",
    "BucketInfo",
    "CopyResult",
    "CorsCheck",
    "CorsMethod",
    "CorsRule",
    "CreatedKey",
    "DefaultRetention",
    "Diagnosis",
    "FileVersion",
    "Finding",
    "KeyInfo",
    "LifecycleRule",
    "ObjectLock",
    "Preflight",
    "RestoreResult",
    "RotationResult",
    "StorageAdmin",
    "Stored",
    "UsageReport",
    "VersionListing",
    "diagnose",
]
