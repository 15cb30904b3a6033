"""What an engine is given and returns, and what a caller sees: progress and the report."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from pydantic import AwareDatetime, Field

from careflow_storage.errors import InvalidInputError
from careflow_storage.jobs._cost import calls_of, cost_of
from careflow_storage.jobs.models import AnyJob, JobId, KeyRange
from careflow_storage.models import Model
from careflow_storage.usage.cost import CostEstimate
from careflow_storage.usage.prices import B2_TODAY, CallClass, Prices

Requests = dict[str, dict[str, int]]
"""Requests by location (``source``, ``target``, ``location``) and by S3 operation."""


class ShardTask(Model):
    """A part of a job for one worker: a range of keys, or some of the keys of a file in it.

    ``rate`` is the worker's share of the job's rate, in requests per second. A ``dry_run`` counts
    what would be done, and changes and records nothing. ``retry_of`` is the ID of a shard whose
    objects with errors these ``keys`` are.
    """

    job: AnyJob
    range: KeyRange = KeyRange()
    keys: tuple[str, ...] | None = None
    rate: float | None = None
    dry_run: bool = False
    retry_of: str | None = None


class ObjectError(Model):
    """What happened to one object that could not be worked on, or that differs.

    ``kind`` is the name of the error's class, such as ``AccessDeniedError``, or a difference that
    a `VerifyJob` found: ``MissingOnTarget``, ``MissingOnSource``, ``SizeDiffers``,
    ``ContentDiffers`` or ``NotComparable``. ``message`` contains no secrets. ``retryable`` shows
    whether the same may succeed later.
    """

    key: str
    kind: str
    code: str | None = None
    status: int | None = None
    message: str
    retryable: bool = False


class ShardResult(Model):
    """What one shard has done.

    ``finished`` are the keys that it is done with, those with errors included; ``rest`` are those
    of its range that it did not reach. ``objects`` were worked on (copied, compared, erased,
    locked, mapped) and hold ``bytes``; ``skipped`` needed nothing. ``details`` counts what only
    one kind of job has, such as ``versions``. ``oldest`` and ``newest`` are the times at which the
    objects that were worked on had been stored. ``notes`` are sentences about what went well, but
    not as it should, such as a function that blocked the event loop. ``error_file`` is the key of
    the record with all ``errors``, which the record of the result itself does not repeat.
    ``value_file`` is the key of the object with what the function of a `MapJob` returned.
    ``retry_of`` is the ID of the shard whose errors this one has tried again.
    """

    version: Literal[1] = 1
    job_id: JobId
    shard_id: str
    retry_of: str | None = None
    finished: KeyRange
    rest: KeyRange | None = None
    objects: int = 0
    bytes: int = 0
    skipped: int = 0
    details: dict[str, int] = Field(default_factory=dict)
    oldest: AwareDatetime | None = None
    newest: AwareDatetime | None = None
    notes: list[str] = Field(default_factory=list)
    error_kinds: dict[str, int] = Field(default_factory=dict)
    errors: list[ObjectError] = Field(default_factory=list)
    error_file: str | None = None
    value_file: str | None = None
    requests: Requests = Field(default_factory=dict)
    seconds: float = 0.0
    worker: str = ""


class JobProgress(Model):
    """How far a job is. ``seconds`` counts from the start or the last resume."""

    job_id: JobId
    objects: int
    bytes: int
    skipped: int
    errors: int
    shards_finished: int
    shards_running: int
    shards_waiting: int
    seconds: float


JobProgressCallback = Callable[[JobProgress], Awaitable[None] | None]
"""Called with each `JobProgress`; may be async."""

JobState = Literal["planned", "unfinished", "stopped", "finished"]


class JobReport(Model):
    """What a job has done so far, all of its runs together.

    ``state`` is ``finished`` when every key was visited, also if some have errors; ``stopped`` when
    the job ended before, by an error (``stopped_by``) or a cancellation; ``unfinished`` when it is
    still running or was killed; ``planned`` after a dry run. `resume_job` goes on, and tries
    objects with errors again. ``error_kinds`` counts the errors by kind; ``error_files`` are keys
    in the bucket of the job's records, each with one JSON line per key: a valid ``keys_file`` of
    another job. ``value_files`` are those with what the function of a `MapJob` returned, as
    ``key`` and ``value``.

    ``details`` counts what only one kind of job has: ``versions``, ``delete_markers``,
    ``delete_markers_kept`` and ``locked_versions`` of a purge; ``retentions_set``,
    ``legal_holds_set`` and ``legal_holds_removed``; ``blocked_loop``, the objects at which a
    function blocked the event loop. ``oldest`` and ``newest`` are the times at which the objects
    that were worked on had been stored. ``notes`` are sentences for the reader, at most 20.
    ``lost`` are the keys of shards that ended several workers, and were left out.
    """

    version: Literal[1] = 1
    job: AnyJob
    state: JobState
    stopped_by: str | None = None
    objects: int
    bytes: int
    skipped: int
    details: dict[str, int]
    errors: int
    oldest: AwareDatetime | None = None
    newest: AwareDatetime | None = None
    notes: list[str] = Field(default_factory=list)
    lost: list[KeyRange] = Field(default_factory=list)
    error_kinds: dict[str, int]
    error_files: list[str]
    value_files: list[str] = Field(default_factory=list)
    requests: Requests
    shards: int
    seconds: float
    started_at: AwareDatetime
    ended_at: AwareDatetime | None

    @property
    def objects_per_second(self) -> float:
        """The objects that were worked on, per second."""
        return self.objects / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_second(self) -> float:
        """The bytes that were worked on, per second."""
        return self.bytes / self.seconds if self.seconds else 0.0

    def calls(self) -> dict[CallClass, int]:
        """Add up the requests at all locations by the classes of Backblaze's prices."""
        return calls_of(self.requests)

    def cost(self, role: str, prices: Prices = B2_TODAY) -> CostEstimate:
        """Estimate what the requests and downloads at one location cost, without what is stored.

        Args:
            role: ``"source"``, ``"target"`` or ``"location"``.

        Raises:
            InvalidInputError: The job has no such location, or a price is invalid.
        """
        roles = ("source", "target") if hasattr(self.job, "source") else ("location",)
        if role not in roles:
            raise InvalidInputError(f"role must be one of {', '.join(roles)}, not {role!r}.")
        reads = self.job.kind == "copy" or (self.job.kind == "verify" and self.job.deep)
        downloads = reads and (role == "source" or self.job.kind == "verify")
        return cost_of(self.requests.get(role, {}), self.bytes if downloads else 0, prices)


class JobRecord(Model):
    """A job that a bucket has records of.

    ``job`` is None if another version of this package wrote it, or its record is damaged.
    ``report`` is None if the job is still running or was killed.
    """

    job_id: JobId
    job: AnyJob | None
    report: JobReport | None
