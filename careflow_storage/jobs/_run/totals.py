"""Adds up the results of shards."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

from careflow_storage.jobs._planning.spans import merge, unfinished
from careflow_storage.jobs._shard.outcome import ShardOutcome
from careflow_storage.jobs._shard.storages import Role, locations_of
from careflow_storage.jobs.models import AnyJob, KeyRange
from careflow_storage.jobs.results import JobProgress, JobReport, JobState, ShardResult
from careflow_storage.storage import BackblazeStorage

_SPANS_UNMERGED = 1000
_MOST_NOTES = 20


class Totals:
    """The sums of all shards of a job, those of earlier runs included.

    Attributes:
        to_retry: The shards with errors that no later shard has tried again, by ID.
    """

    def __init__(self, job: AnyJob, started_at: datetime) -> None:
        self.to_retry: dict[str, ShardResult] = {}
        self.job = job
        self._started_at = started_at
        self._spans: list[KeyRange] = []
        self._starts: set[str | None] = set()
        self._retried: set[str] = set()
        self._shards = self._objects = self._bytes = self._skipped = 0
        self._seconds_before = 0.0
        self._details: Counter[str] = Counter()
        self._requests: dict[Role, Counter[str]] = {}
        self._own_requests: dict[Role, Counter[str]] = {}
        self._oldest: datetime | None = None
        self._newest: datetime | None = None
        self._notes: dict[str, None] = {}
        self._lost: list[KeyRange] = []
        self._value_files: list[str] = []
        self._started = time.monotonic()

    def add(self, result: ShardResult) -> None:
        """Add the result of a shard.

        If a worker dies after it has recorded a shard, its engine runs the shard again, and there
        are two results. The second found everything done: only its requests count.
        """
        for role, counts in result.requests.items():
            self._requests.setdefault(role, Counter()).update(counts)
        if result.retry_of is not None:
            self._retried.add(result.retry_of)
            self.to_retry.pop(result.retry_of, None)
        elif result.finished.after in self._starts:
            self._add_span(result.finished)
            return
        else:
            self._starts.add(result.finished.after)
            self._add_span(result.finished)
        self._shards += 1
        self._objects += result.objects
        self._bytes += result.bytes
        self._skipped += result.skipped
        self._details.update(result.details)
        self._oldest = _chosen(self._oldest, result.oldest, min)
        self._newest = _chosen(self._newest, result.newest, max)
        self.add_notes(result.notes)
        if result.value_file is not None:
            self._value_files.append(result.value_file)
        if result.error_kinds and result.shard_id not in self._retried:
            self.to_retry[result.shard_id] = result.model_copy(update={"errors": []})

    def add_detail(self, name: str, number: int) -> None:
        """Add to a detail of the report."""
        if number:
            self._details[name] += number

    @contextmanager
    def counting(self, storages: Mapping[Role, BackblazeStorage]) -> Iterator[None]:
        """Count the requests of the client, too, which no shard counts."""
        with ExitStack() as scopes:
            for role, storage in storages.items():
                self._own_requests[role] = scopes.enter_context(storage.count_requests())
            yield

    def add_notes(self, notes: Iterable[str]) -> None:
        """Add notes to the report, each once."""
        for note in notes:
            if len(self._notes) < _MOST_NOTES:
                self._notes[note] = None

    def add_lost(self, keys: KeyRange) -> None:
        """Add the keys of a shard that no worker has survived."""
        self._lost.append(keys)

    def continue_from(self, report: JobReport | None) -> None:
        """Take over what only the report of an earlier run has: its time and its requests."""
        if report is not None:
            self._seconds_before = report.seconds
            self.add_notes(report.notes)
            for role, counts in report.requests.items():
                self._requests[role] = self._requests.get(role, Counter()) | Counter(counts)

    def unfinished(self, whole: KeyRange) -> list[KeyRange]:
        """Return the parts of a range that no shard has finished."""
        return unfinished(whole, self._spans)

    @property
    def shards(self) -> int:
        """The number of shards that are finished."""
        return self._shards

    def progress(
        self, running: int, waiting: int, outcomes: Sequence[ShardOutcome] = ()
    ) -> JobProgress:
        """Return how far the job is, with what running shards have done so far."""
        return JobProgress(
            job_id=self.job.job_id,
            objects=self._objects + sum(each.objects for each in outcomes),
            bytes=self._bytes + sum(each.bytes for each in outcomes),
            skipped=self._skipped + sum(each.skipped for each in outcomes),
            errors=self._errors().total() + sum(len(each.errors) for each in outcomes),
            shards_finished=self._shards,
            shards_running=running,
            shards_waiting=waiting,
            seconds=time.monotonic() - self._started,
        )

    def report(self, state: JobState, stopped_by: BaseException | None = None) -> JobReport:
        """Return the report of this moment."""
        kinds = self._errors()
        requests = {
            role: dict(
                self._requests.get(role, Counter()) + self._own_requests.get(role, Counter())
            )
            for role in locations_of(self.job)
        }
        return JobReport(
            job=self.job,
            state=state,
            stopped_by=None if stopped_by is None else _reason(stopped_by),
            objects=self._objects,
            bytes=self._bytes,
            skipped=self._skipped,
            details=dict(self._details),
            errors=kinds.total(),
            oldest=self._oldest,
            newest=self._newest,
            notes=list(self._notes),
            lost=self._lost,
            error_kinds=dict(kinds),
            error_files=[each.error_file for each in self.to_retry.values() if each.error_file],
            value_files=self._value_files,
            requests=requests,
            shards=self._shards,
            seconds=self._seconds_before + time.monotonic() - self._started,
            started_at=self._started_at,
            ended_at=None if state == "unfinished" else datetime.now(UTC),
        )

    def _errors(self) -> Counter[str]:
        kinds: Counter[str] = Counter()
        for result in self.to_retry.values():
            kinds.update(result.error_kinds)
        return kinds

    def _add_span(self, span: KeyRange) -> None:
        self._spans.append(span)
        if len(self._spans) % _SPANS_UNMERGED == 0:
            self._spans = merge(self._spans)


def _chosen(
    one: datetime | None, other: datetime | None, choose: Callable[[datetime, datetime], datetime]
) -> datetime | None:
    """Choose one of two times; None is no time."""
    if one is None or other is None:
        return one or other
    return choose(one, other)


def _reason(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
