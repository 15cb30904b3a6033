"""Bulk jobs over many objects: copy, verify, purge, retain, map.

::

    job = CopyJob(source=Location(env_file="old.env"), target=Location(env_file=".env"))
    report = await run_job(job)

A job runs in this process, or with the extra ``jobs`` on a Dask cluster. It can be stopped at any
moment and resumed: `resume_job`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from careflow_storage._lazy import lazy_exports
from careflow_storage.jobs.errors import JobError, JobVersionError, NoSuchJobError, WorkerLostError

if TYPE_CHECKING:
    from careflow_storage.jobs.engines.protocol import Engine
    from careflow_storage.jobs.models import (
        AnyJob,
        CopyJob,
        KeyRange,
        Location,
        MapJob,
        PurgeJob,
        RetainJob,
        VerifyJob,
    )
    from careflow_storage.jobs.results import (
        JobProgress,
        JobProgressCallback,
        JobReport,
        ObjectError,
        ShardResult,
        ShardTask,
    )
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            f"{__name__}.engines.protocol": ("Engine",),
            f"{__name__}.models": (
                *("AnyJob", "CopyJob", "KeyRange", "Location", "MapJob", "PurgeJob"),
                *("RetainJob", "VerifyJob"),
            ),
            f"{__name__}.results": (
                *("JobProgress", "JobProgressCallback", "JobReport", "ObjectError"),
                *("ShardResult", "ShardTask"),
            ),
        },
    )

__all__ = [
    "AnyJob",
    "CopyJob",
    "Engine",
    "JobError",
    "JobProgress",
    "JobProgressCallback",
    "JobReport",
    "JobVersionError",
    "KeyRange",
    "Location",
    "MapJob",
    "NoSuchJobError",
    "ObjectError",
    "PurgeJob",
    "RetainJob",
    "ShardResult",
    "ShardTask",
    "VerifyJob",
    "WorkerLostError",
]
