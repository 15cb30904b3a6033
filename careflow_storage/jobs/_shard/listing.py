"""Lists the source and the target side by side: 1 request per 1000 keys on each side."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from careflow_storage._s3.requests.key_range import ListedRange
from careflow_storage._transfer.tasks import task_group
from careflow_storage.jobs._records.keys import is_record
from careflow_storage.jobs._shard.context import ShardContext
from careflow_storage.jobs.models import CopyJob, KeyRange, VerifyJob
from careflow_storage.models import FileInfo
from careflow_storage.storage import BackblazeStorage


@dataclass(frozen=True, slots=True)
class Pair:
    """A key of the source, the target's key for it, and what each side has; None is missing."""

    key: str
    to_key: str
    source: FileInfo | None
    target: FileInfo | None


@dataclass(frozen=True, slots=True)
class KeyMap:
    """From keys of the source to keys of the target, and back. Keeps their order."""

    prefix: str
    target_prefix: str

    @classmethod
    def of(cls, job: CopyJob | VerifyJob) -> KeyMap:
        """Return the map of a job."""
        return cls(job.prefix, job.prefix if job.target_prefix is None else job.target_prefix)

    def to_target(self, key: str) -> str:
        """Return the target's key for a key of the source."""
        return self.target_prefix + key[len(self.prefix) :]

    def to_source(self, key: str) -> str:
        """Return the source's key for a key of the target."""
        return self.prefix + key[len(self.target_prefix) :]


def within(whole: KeyRange, prefix: str) -> KeyRange | None:
    """Return the part of a range whose keys begin with ``prefix``; None if it is empty."""
    found = ListedRange(whole.after, whole.until).within(prefix)
    return None if found is None else KeyRange(after=found.after, until=found.until)


async def files_in(
    storage: BackblazeStorage, prefix: str, keys: KeyRange
) -> AsyncGenerator[list[FileInfo]]:
    """Yield the pages of a range, without records of jobs.

    Raises:
        ServerResponseError: The server lists in another order than UTF-8's.
    """
    # An empty `start_after` is a range, too, whose order is checked.
    listing = storage.list_files(prefix, start_after=keys.after or "", until=keys.until)
    async for page in listing.pages():
        files = [file for file in page if not is_record(file.key)]
        if files:
            yield files


class _Side:
    """One of the two listings, read one page at a time."""

    def __init__(self, pages: AsyncIterator[list[FileInfo]]) -> None:
        self._pages = pages
        self._files: list[FileInfo] = []
        self._next = 0

    async def fill(self) -> None:
        """Read the next page if there is none."""
        if self._next == len(self._files):
            self._files, self._next = await anext(self._pages, []), 0

    @property
    def first(self) -> FileInfo | None:
        """The next file; None at the end."""
        return self._files[self._next] if self._next < len(self._files) else None

    async def advance(self) -> None:
        """Go on to the next file."""
        self._next += 1
        await self.fill()


async def side_by_side(context: ShardContext, *, source_only: bool) -> AsyncGenerator[Pair]:
    """Yield the keys of the shard's range in order, with what each side has.

    Args:
        source_only: Whether to leave out keys that only the target has. Then the target is listed
            no further than the source.
    """
    job = context.task.job
    assert isinstance(job, CopyJob | VerifyJob)  # noqa: S101 - for type checkers
    keys, names = within(context.task.range, job.prefix), KeyMap.of(job)
    if keys is None:
        return
    mapped = KeyRange(
        after=None if keys.after is None else names.to_target(keys.after),
        until=None if keys.until is None else names.to_target(keys.until),
    )
    sources = files_in(context.storages["source"], names.prefix, keys)
    targets = files_in(context.storages["target"], names.target_prefix, mapped)
    async with aclosing(sources), aclosing(targets):
        source, target = _Side(sources), _Side(targets)
        async with task_group() as group:
            group.create_task(source.fill())
            group.create_task(target.fill())
        while True:
            ours, theirs = source.first, target.first
            if ours is None and (theirs is None or source_only):
                return
            their_key = None if theirs is None else names.to_source(theirs.key)
            if ours is not None and (their_key is None or ours.key <= their_key):
                both = ours.key == their_key
                yield Pair(ours.key, names.to_target(ours.key), ours, theirs if both else None)
                await source.advance()
                if both:
                    await target.advance()
            else:
                if theirs is not None and their_key is not None and not source_only:
                    yield Pair(their_key, theirs.key, None, theirs)
                await target.advance()
