"""Jobs as data: what is done to which keys. Frozen, JSON in both directions, without secrets."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from careflow_storage.errors import InvalidInputError
from careflow_storage.jobs._locations import settings_of
from careflow_storage.models import Model
from careflow_storage.options import IfExists
from careflow_storage.protection import Retention, RetentionMode
from careflow_storage.settings import StorageSettings

_JOB_ID = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{8}")
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_NUMBER = re.compile(r"\s*[-+]?[0-9._]+(e[0-9]+)?\s*", re.IGNORECASE)
_GIB = 1024 * 1024 * 1024
_NOT_GIVEN = object()
_LONGEST_AGE = timedelta(days=36_500)


def new_job_id() -> str:
    """Return a unique ID. IDs sort by the second in which they were made."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def _checked_job_id(job_id: str) -> str:
    if not _JOB_ID.fullmatch(job_id):
        raise ValueError("must look like 20260131T235959-0123abcd; leave it out for a new one")
    return job_id


def _checked_prefix(prefix: str) -> str:
    if len(prefix.encode("utf-8", "surrogatepass")) > 1024 or not prefix.isprintable():
        raise ValueError("must be at most 1024 bytes of UTF-8 without control characters")
    return prefix


def _checked_time(value: object) -> object:
    # Pydantic takes a number for seconds, where the caller may have meant days.
    if value is None or isinstance(value, timedelta | datetime):
        return value
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return value  # as in JSON
    raise ValueError(f"must be a timedelta or a datetime, not {type(value).__name__}")


def check_job_id(job_id: str) -> None:
    """Raise `InvalidInputError` unless this is the ID of a job."""
    if type(job_id) is not str or not _JOB_ID.fullmatch(job_id):
        raise InvalidInputError(f"job_id must look like 20260131T235959-0123abcd, not {job_id!r}.")


JobId = Annotated[str, AfterValidator(_checked_job_id)]
_Prefix = Annotated[str, AfterValidator(_checked_prefix)]


class JobModel(Model):
    """A model that reports bad values as `InvalidInputError`."""

    # Hidden from type checkers, which derive the signature from the fields.
    if not TYPE_CHECKING:

        def __init__(self, **values: Any) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise refused(type(self).__name__, error) from None


def refused(name: str, error: ValidationError) -> InvalidInputError:
    """Return the typed error for what pydantic refused."""
    problems = []
    for line in error.errors(include_url=False, include_input=False):
        text = str(line["ctx"]["error"]) if line["type"] == "value_error" else line["msg"]
        where = ".".join(str(part) for part in line["loc"])
        problems.append(f"{where}: {text}" if where else text)
    return InvalidInputError(f"{name}: {'; '.join(problems)}.")


class Location(JobModel):
    """A bucket and where each worker finds its credentials. Never holds a secret.

    Attributes:
        env_file: A file of ``BACKBLAZE_*`` variables (or the ``AWS_*`` ones that
            `StorageSettings` reads). Only the file counts: variables of the environment are
            ignored, so that two locations never mix. Each worker reads the file on its own
            machine. None: the worker's environment and its ``.env``.
        bucket: Another bucket for the same application key.
    """

    env_file: Path | None = None
    bucket: str | None = Field(default=None, min_length=1)

    if TYPE_CHECKING:

        def __init__(
            self, *, env_file: str | Path | None = None, bucket: str | None = None
        ) -> None: ...

    def settings(self) -> StorageSettings:
        """Read the settings. Blocks: call it in a thread.

        Raises:
            InvalidInputError: The file does not exist, or a value is malformed.
            NotConfiguredError: A required value is missing. The hint names the file.
        """
        return settings_of(self.env_file, self.bucket)

    def __str__(self) -> str:
        where = "the environment" if self.env_file is None else str(self.env_file)
        return where if self.bucket is None else f"{where} (bucket {self.bucket})"


class KeyRange(Model):
    """The keys in ``(after, until]``, in the order of their UTF-8 bytes; None is an open end."""

    after: str | None = None
    until: str | None = None


class _Job(JobModel):
    """What all jobs have.

    Attributes:
        job_id: Names the job's records, ``jobs/{job_id}/`` in the bucket. IDs sort by time.
        prefix: Only objects whose keys begin with it.
        keys_file: Only the keys in this file, one on each line, or JSON lines with a ``key``, such
            as the file of errors of another job. Read once, when the job begins.
        shard_keys: The most keys of one shard. Fewer than 1000 cost more listings.
        shard_bytes: A shard that has moved this many bytes hands back the rest of its range.
        rate: The most requests per second at each location, of all workers together. None: no
            limit.
    """

    version: Literal[1] = 1
    job_id: JobId = Field(default_factory=new_job_id)
    prefix: _Prefix = ""
    keys_file: Path | None = None
    shard_keys: int = Field(default=1000, ge=1, le=100_000, strict=True)
    shard_bytes: PositiveInt = Field(default=_GIB, strict=True)
    rate: PositiveFloat | None = Field(default=None, allow_inf_nan=False, strict=True)


class _OneLocation(_Job):
    """A job that works in one bucket.

    Attributes:
        location: The bucket, which also keeps the job's records.
    """

    location: Location = Location()


class CopyJob(_Job):
    """Copies objects from one bucket to another; what is there already is skipped.

    An object is there if the target's has the same size and the same ETag, or says in its
    metadata (``careflow-source-etag``) that it is a copy of this source.

    Attributes:
        source: Where the objects are.
        target: Where they go. It also keeps the job's records.
        target_prefix: Replaces ``prefix`` in the keys of the copies. None keeps the keys.
        if_exists: What to do about a different object under the target's key: ``"replace"`` it
            (the older one stays as a version), report an ``"error"``, or keep it (``"return"``).
        metadata: The user's metadata of the copies; None keeps that of the source.
        content_type: None keeps that of the source.
        cache_control: None keeps that of the source.
        content_disposition: None keeps that of the source.
        encryption: ``"SSE-B2"``, or None for the default of the target's bucket.
        retention: The lock of the copies: ``"keep"`` that of the source, a `Retention`, or None.
        legal_hold: ``"keep"`` that of the source, True, or False.
    """

    kind: Literal["copy"] = "copy"
    source: Location
    target: Location
    target_prefix: _Prefix | None = None
    if_exists: IfExists = "replace"
    metadata: dict[str, str] | None = None
    content_type: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    encryption: Literal["SSE-B2"] | None = None
    retention: Retention | Literal["keep"] | None = None
    legal_hold: bool | Literal["keep"] = False


class VerifyJob(_Job):
    """Compares the objects of two buckets and reports those that are missing or differ.

    Compares sizes and ETags, at 1 request per 1000 keys on each side. The ETag of a multipart
    upload depends on the sizes of its parts: where it proves nothing, the metadata
    ``careflow-source-etag`` of the target decides (1 request), or ``deep``.

    Attributes:
        source: Where the objects are.
        target: Where their copies should be. It also keeps the job's records.
        target_prefix: Replaces ``prefix`` in the keys of the copies.
        deep: Whether to read and compare the bytes of every object on both sides.
    """

    kind: Literal["verify"] = "verify"
    source: Location
    target: Location
    target_prefix: _Prefix | None = None
    deep: bool = Field(default=False, strict=True)


class PurgeJob(_OneLocation):
    """Erases versions of objects permanently. A dry run shows what it would erase.

    Only versions that are listed are erased, by their IDs: what is stored under the same keys
    meanwhile stays. A version that is locked is reported, and stays. Unfinished uploads stay, too.
    Costs 2 requests per 1000 versions, and 1 for each version that the server refuses to erase;
    with ``keys_file`` another one for each key.

    Attributes:
        older_than: Only versions that were stored at least this long before the job began, by the
            server's clock.
        before: Only versions that were stored until this time. A job with ``older_than`` gets it
            when it begins, so that a resumed job erases no more than it would have.
        versions: ``"all"`` versions and delete markers; only the ``"noncurrent"`` ones, which
            keeps the newest of each key; or only the ``"current"`` ones: then an older version
            that is left becomes current. Hidden files have no current version.
    """

    kind: Literal["purge"] = "purge"
    older_than: Annotated[timedelta | None, BeforeValidator(_checked_time)] = None
    before: Annotated[AwareDatetime | None, BeforeValidator(_checked_time)] = None
    versions: Literal["all", "noncurrent", "current"] = "all"

    @model_validator(mode="after")
    def _check_age(self) -> Self:
        if self.older_than is not None and self.older_than < timedelta():
            raise ValueError("older_than must not be negative")
        if self.older_than is not None and self.older_than > _LONGEST_AGE:
            raise ValueError(f"older_than must be at most {_LONGEST_AGE.days:,} days")
        return self


class RetainJob(_OneLocation):
    """Sets the retention or the legal hold of the current version of each object.

    A version that is locked as asked for, or for longer, is skipped. 1 request per object, and 1
    or 2 for each change. Needs readFileRetentions and readFileLegalHolds to see what is set
    already, and writeFileRetentions or writeFileLegalHolds.

    Attributes:
        mode: The mode of the retention. A governance retention becomes one of mode compliance
            with ``"compliance"``, and keeps its end if that is later.
        until: The end of the retention.
        days: The same as days after each version was stored, as in the default retention of a
            bucket. Versions for which it has passed get none.
        legal_hold: Sets the hold (True) or removes it (False); None leaves it.
        bypass_governance: Whether to shorten governance retentions, too. Needs bypassGovernance.
    """

    kind: Literal["retain"] = "retain"
    mode: RetentionMode = "governance"
    until: Annotated[AwareDatetime | None, BeforeValidator(_checked_time)] = None
    days: int | None = Field(default=None, ge=1, le=36_500, strict=True)
    legal_hold: bool | None = Field(default=None, strict=True)
    bypass_governance: bool = Field(default=False, strict=True)

    @model_validator(mode="after")
    def _check_lock(self) -> Self:
        if self.until is not None and self.days is not None:
            raise ValueError("only one of until and days can be set")
        if self.until is not None:
            Retention(mode=self.mode, retain_until=self.until)
        if self.until is None and self.days is None:
            if self.legal_hold is None:
                raise ValueError("one of until, days and legal_hold must be set")
            if self.bypass_governance:
                raise ValueError("bypass_governance needs until or days")
        return self


class MapJob(_OneLocation):
    """Calls an async function of yours for each object.

    ::

        async def function(storage: BackblazeStorage, file: FileInfo) -> object: ...

    The function gets the open storage of the worker. If its second parameter is a ``str``, as that
    of `careflow_storage.media.make_seekable`, it gets the key. It may run again for an object,
    after a worker died, so it should do no harm then. What it returns, as JSON or a pydantic
    model, is stored beside the job's records (``value_files`` of the report); None is not.

    Args:
        function: ``"package.module:function"``. Each worker imports it.

    Attributes:
        concurrency: The most calls at once in each shard.
        timeout: The most seconds for each object.
    """

    kind: Literal["map"] = "map"
    function: str
    concurrency: int = Field(default=8, ge=1, le=1000, strict=True)
    timeout: PositiveFloat | None = Field(default=None, allow_inf_nan=False, strict=True)

    if TYPE_CHECKING:

        def __init__(
            self,
            function: str,
            *,
            location: Location = ...,
            prefix: str = ...,
            keys_file: Path | None = ...,
            concurrency: int = ...,
            timeout: float | None = ...,
            shard_keys: int = ...,
            shard_bytes: int = ...,
            rate: float | None = ...,
            job_id: str = ...,
        ) -> None: ...

    else:

        def __init__(self, function: Any = _NOT_GIVEN, **values: Any) -> None:
            if function is not _NOT_GIVEN:
                values["function"] = function
            super().__init__(**values)

    @model_validator(mode="after")
    def _check_function(self) -> Self:
        if not _FUNCTION.fullmatch(self.function):
            raise ValueError("function: must look like 'package.module:function'")
        return self


AnyJob = Annotated[CopyJob | VerifyJob | PurgeJob | RetainJob | MapJob, Field(discriminator="kind")]
"""Any job: ``kind`` names which."""
