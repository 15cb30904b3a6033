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
from careflow_storage.jobs.errors import (
    ClusterError,
    JobError,
    JobVersionError,
    NoSuchJobError,
    WorkerLostError,
)

if TYPE_CHECKING:
    from careflow_storage.jobs.engines.dask import DaskEngine
    from careflow_storage.jobs.engines.local import LocalEngine
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
        JobRecord,
        JobReport,
        ObjectError,
        ShardResult,
        ShardTask,
    )
    from careflow_storage.jobs.run import plan_job, resume_job, run_job
    from careflow_storage.jobs.stored import list_jobs, show_job
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            f"{__name__}.engines.dask": ("DaskEngine",),
            f"{__name__}.engines.local": ("LocalEngine",),
            f"{__name__}.engines.protocol": ("Engine",),
            f"{__name__}.models": (
                *("AnyJob", "CopyJob", "KeyRange", "Location", "MapJob", "PurgeJob"),
                *("RetainJob", "VerifyJob"),
            ),
            f"{__name__}.results": (
                *("JobProgress", "JobProgressCallback", "JobRecord", "JobReport"),
                *("ObjectError", "ShardResult", "ShardTask"),
            ),
            f"{__name__}.run": ("plan_job", "resume_job", "run_job"),
            f"{__name__}.stored": ("list_jobs", "show_job"),
        },
    )

__all__ = [
    "AnyJob",
    "ClusterError",
    "CopyJob",
    "DaskEngine",
    "Engine",
    "JobError",
    "JobProgress",
    "JobProgressCallback",
    "JobRecord",
    "JobReport",
    "JobVersionError",
    "KeyRange",
    "LocalEngine",
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
    "list_jobs",
    "plan_job",
    "resume_job",
    "run_job",
    "show_job",
]
