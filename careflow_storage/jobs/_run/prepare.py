"""Prepares a job that works in one bucket, before its first object."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from careflow_storage._dates import parse_date
from careflow_storage._log_fields import log_fields
from careflow_storage._s3.headers.errors import bucket_cannot_lock
from careflow_storage.errors import (
    AccessDeniedError,
    InvalidInputError,
    NotSupportedError,
    ServerResponseError,
)
from careflow_storage.jobs._run.totals import Totals
from careflow_storage.jobs.models import AnyJob, PurgeJob, RetainJob
from careflow_storage.storage import BackblazeStorage

logger = logging.getLogger("careflow_storage")

_SKEW_NOTED: Final = timedelta(minutes=1)


async def prepared(job: AnyJob, storage: BackblazeStorage, totals: Totals) -> AnyJob:
    """Return the job as its records keep it. 1 request at most. Adds notes to the totals.

    Raises:
        InvalidInputError: The bucket cannot lock files, or the time of a lock is not in the future.
    """
    if isinstance(job, PurgeJob):
        job = totals.job = await _with_time(job, storage, totals)
    elif isinstance(job, RetainJob):
        await _check_lock(job, storage)
    return job


async def _with_time(job: PurgeJob, storage: BackblazeStorage, totals: Totals) -> PurgeJob:
    """Turn the age into a time of the server's clock, which has dated the versions."""
    if job.older_than is None:
        return job
    here, there = datetime.now(UTC), await _server_time(storage)
    skew = there - here
    if abs(skew) >= _SKEW_NOTED:
        side = "behind" if skew > timedelta() else "ahead of"
        note = (
            f"The clock of this machine is {_text(abs(skew))} {side} the server's. The ages of "
            "versions are measured by the server's."
        )
        logger.warning(
            "job %s: %s", job.job_id, note, extra=log_fields("job_noted", job_id=job.job_id)
        )
        totals.add_notes([note])
    before = there - job.older_than
    if job.before is not None:
        before = min(before, job.before)
    return job.model_copy(update={"before": before})


async def _server_time(storage: BackblazeStorage) -> datetime:
    """Ask for the server's time. 1 request, a listing of one key."""

    def date_of(response: dict[str, Any]) -> datetime | None:
        return parse_date(response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date"))

    async with storage._call("run_job"):
        control = storage._context().control
        now = await control.call("list_objects_v2", None, {"MaxKeys": 1}, date_of)
        if now is None:
            raise ServerResponseError(
                "The server sent no time, so the age of the versions is unknown.",
                operation="ListObjectsV2",
                hint="before= names a time itself.",
            )
        return now


async def _check_lock(job: RetainJob, storage: BackblazeStorage) -> None:
    if job.until is not None and job.until <= datetime.now(UTC):
        raise InvalidInputError(f"until: {job.until:%Y-%m-%d %H:%M:%S %Z} is not in the future.")
    try:
        lock = await storage.admin.get_object_lock()
    except (AccessDeniedError, NotSupportedError):
        return  # The requests themselves will show it.
    if not lock.enabled:
        raise bucket_cannot_lock("legal_hold" if job.legal_hold is not None else "retention")


def _text(span: timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
