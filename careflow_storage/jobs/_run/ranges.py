"""Divides a job into its first shards, where its keys are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice

from careflow_storage.jobs._planning.splitting import split_rest
from careflow_storage.jobs._records.keys import folder_of, is_record, job_id_at
from careflow_storage.jobs._shard.listing import within
from careflow_storage.jobs.models import AnyJob, KeyRange
from careflow_storage.jobs.results import ShardTask
from careflow_storage.storage import BackblazeStorage

# Behind all keys of a folder that a job writes.
_LAST = "\U0010ffff"

# One request lists no more.
_MAX_PAGE = 1000


class KeySpace:
    """The keys that a job works on, in the bucket that it lists first."""

    def __init__(self, storage: BackblazeStorage, job: AnyJob) -> None:
        self._storage = storage
        self._job = job

    async def split(self, keys: KeyRange, parts: int) -> list[KeyRange]:
        """Split a range into at most ``parts``, each with the keys of at least one shard."""
        clipped = within(keys, self._job.prefix)
        if clipped is None or parts < 2:
            return [keys]
        firsts: dict[str | None, str] = {}

        async def probe(place: str | None) -> str | None:
            page = await self._page_after(place)
            if page is None:
                return None
            firsts[place], last = page
            return last

        found = await split_rest(clipped, probe, parts)
        # Ranges begin at keys that exist. Behind a place that is the name of a folder, SeaweedFS
        # lists nothing of that folder, in an order that looks right.
        ends = sorted({firsts[part.after] for part in found[1:]} - {keys.until})
        pieces = zip([keys.after, *ends], [*ends, keys.until], strict=True)
        return [KeyRange(after=after, until=until) for after, until in pieces]

    async def end_of_shard(self, keys: KeyRange) -> str | None:
        """Return the last key of a shard at the beginning of a range; None if it has them all."""
        limit = self._job.shard_keys
        page = await self._storage.list_files(
            self._job.prefix, limit, start_after=keys.after or "", until=keys.until
        )
        return page[-1].key if len(page) == limit else None

    async def first_parts(self, parts: Sequence[KeyRange], wanted: int) -> list[KeyRange]:
        """Split ranges until each of ``wanted`` workers has one. A small range stays whole."""
        each = wanted // max(1, len(parts))
        return [piece for part in parts for piece in await self.split(part, each)]

    async def _page_after(self, place: str | None) -> tuple[str, str] | None:
        """Return the first and the last key of the page behind a place; None if it is not full.

        Records of jobs do not count.
        """
        wanted, after, first = min(self._job.shard_keys, _MAX_PAGE), place or "", None
        while True:
            page = await self._storage.list_files(self._job.prefix, wanted, start_after=after)
            if len(page) < wanted:
                return None
            first = first or page[0].key
            last = page[-1].key
            wanted -= sum(not is_record(file.key) for file in page)
            if not wanted:
                return first, last
            after = folder_of(job_id_at(last)) + _LAST if is_record(last) else last


def tasks_of_ranges(job: AnyJob, ranges: Sequence[KeyRange]) -> list[ShardTask]:
    """Return a task for each range."""
    return [ShardTask(job=job, range=each) for each in ranges]


def tasks_of_keys(job: AnyJob, keys: Sequence[str], ranges: Sequence[KeyRange]) -> list[ShardTask]:
    """Return tasks for the sorted ``keys`` that are in one of the ranges."""
    tasks: list[ShardTask] = []
    for each in ranges:
        first = 0 if each.after is None else bisect_right(keys, each.after)
        end = len(keys) if each.until is None else bisect_right(keys, each.until)
        inside, after = iter(keys[first:end]), each.after
        while chunk := tuple(islice(inside, job.shard_keys)):
            tasks.append(
                ShardTask(job=job, range=KeyRange(after=after, until=chunk[-1]), keys=chunk)
            )
            after = chunk[-1]
    return tasks
