"""Refuses jobs that would harm or make no sense, before the first object."""

from __future__ import annotations

from urllib.parse import urlsplit

from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage.errors import AccessDeniedError, InvalidInputError
from careflow_storage.jobs._records.keys import JOBS_PREFIX, folder_of, is_record
from careflow_storage.jobs.models import (
    AnyJob,
    CopyJob,
    Location,
    MapJob,
    PurgeJob,
    RetainJob,
    VerifyJob,
)
from careflow_storage.storage import BackblazeStorage


def check_arguments(job: object = None, *, engine: object = None, progress: object = None) -> None:
    """Check the types of what a caller passed; None is left out.

    Raises:
        InvalidInputError: The job is no job, the engine no engine, or progress no function.
    """
    if job is not None and not isinstance(job, CopyJob | VerifyJob | PurgeJob | RetainJob | MapJob):
        raise InvalidInputError(
            f"job must be a CopyJob, VerifyJob, PurgeJob, RetainJob or MapJob, not {_kind(job)}."
        )
    if engine is not None and not _is_engine(engine):
        raise InvalidInputError(
            f"engine must be an engine such as LocalEngine(), not {_kind(engine)}."
        )
    if progress is not None and not callable(progress):
        raise InvalidInputError(f"progress must be a function, not {_kind(progress)}.")


def check_location(name: str, location: object) -> None:
    """Raise `InvalidInputError` unless this is a `Location`."""
    if not isinstance(location, Location):
        raise InvalidInputError(
            f"{name} must be a Location, not {_kind(location)}.",
            hint="For example Location() or Location(env_file='target.env').",
        )


def _is_engine(engine: object) -> bool:
    names = ("__aenter__", "__aexit__", "run", "capacity", "workers")
    return all(hasattr(type(engine), name) for name in names)


def _kind(value: object) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__


def check_job(job: AnyJob, source: BackblazeStorage, target: BackblazeStorage) -> None:
    """Check the prefixes of a job, and what it sets on copies. Sends no request.

    Raises:
        InvalidInputError: The prefix is within the records of a job, the source and the target
            overlap, or a header of the copies is malformed.
    """
    for prefix in (job.prefix, getattr(job, "target_prefix", None)):
        if prefix is not None and is_record(prefix):
            raise InvalidInputError(
                f"The prefix {prefix!r} is within the records of a job, on which no job works.",
                hint=f"Choose a prefix that does not begin with {JOBS_PREFIX!r} and a job's ID.",
            )
    if isinstance(job, CopyJob | VerifyJob) and _place(source) == _place(target):
        _check_same_bucket(job)
    if isinstance(job, CopyJob):
        UploadOptions(
            content_type=job.content_type,
            metadata=job.metadata,
            cache_control=job.cache_control,
            content_disposition=job.content_disposition,
        ).headers(target.settings.endpoint)


def _place(storage: BackblazeStorage) -> tuple[str | None, int | None, str | None]:
    # Several servers may run on one host.
    endpoint = urlsplit(storage.settings.endpoint or "")
    port = endpoint.port or {"http": 80, "https": 443}.get(endpoint.scheme)
    return endpoint.hostname, port, storage.settings.bucket_name


def _check_same_bucket(job: CopyJob | VerifyJob) -> None:
    source, target = job.prefix, job.prefix if job.target_prefix is None else job.target_prefix
    if source == target:
        raise InvalidInputError(
            "The source equals the target: the same bucket and the same prefix.",
            hint="Pass another location as the target, or a target_prefix.",
        )
    if isinstance(job, CopyJob) and (source.startswith(target) or target.startswith(source)):
        raise InvalidInputError(
            f"The target {target!r} and the source {source!r} overlap in the same bucket, so the "
            "job would copy its own copies.",
            hint="Choose prefixes of which none begins with the other.",
        )


async def check_apart(job: AnyJob, source: BackblazeStorage, target: BackblazeStorage) -> None:
    """Check that two locations are two buckets, under whatever names. 1 or 2 requests.

    The target holds the job's records by now. If the source does, too, it is the same bucket.

    Raises:
        InvalidInputError: They are one bucket, and the prefixes overlap.
    """
    if not isinstance(job, CopyJob | VerifyJob) or _place(source) == _place(target):
        return
    try:
        same = await source.file_exists(f"{folder_of(job.job_id)}job.json")
    except AccessDeniedError:
        return  # a key that may not see the records cannot see the target's bucket
    if same:
        _check_same_bucket(job)
