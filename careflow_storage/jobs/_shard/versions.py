"""The versions of a shard's keys, page by page, to the end of the range or of the shard."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

from careflow_storage._s3.requests import versions as version_requests
from careflow_storage.errors import StorageError
from careflow_storage.jobs._records.keys import is_record
from careflow_storage.jobs._shard.concurrently import gather_some
from careflow_storage.jobs.models import KeyRange
from careflow_storage.models import FileVersion
from careflow_storage.recordings import existing_key
from careflow_storage.storage import BackblazeStorage

_LISTINGS_AT_ONCE: Final = 16

# Servers continue a listing from its last version, and some cannot if it was erased. So the last
# version of a page always comes with the next page.


class VersionsInRange:
    """The versions of the keys in a range, until ``most`` keys or versions are listed.

    A page ends between two keys, unless a key has more versions than a page. Records of jobs are
    left out and do not count: every shard adds one, so a job would follow its own without end.

    Attributes:
        rest: The keys that were not reached; None at the end of the range.
    """

    def __init__(self, storage: BackblazeStorage, prefix: str, keys: KeyRange, most: int) -> None:
        self._storage = storage
        self._prefix = prefix
        self._range = keys
        self._most = most
        self._keys = 0
        self._last_key: str | None = None
        self.rest: KeyRange | None = None

    async def pages(self) -> AsyncIterator[Sequence[FileVersion]]:
        """Yield the pages. 1 request for each."""
        listing = self._storage.admin.list_file_versions(
            self._prefix, start_after=self._range.after, until=self._range.until
        )
        waiting: Sequence[FileVersion] = ()
        held: Sequence[FileVersion] = ()
        listed = 0
        async for found in listing.pages():
            page = [version for version in found if not is_record(version.key)]
            if not page:
                continue
            listed += len(page)
            complete, held = _without_last_key([*held, *page])
            end = self._end_of(complete)
            if end is not None or (complete and listed >= self._most):
                complete = complete[:end]
                last = complete[-1].key
                if end is not None or last != held[0].key:
                    self.rest = KeyRange(after=last, until=self._range.until)
            if self.rest is not None:
                yield [*waiting, *complete]
                return
            if waiting:
                yield waiting
            waiting = complete
        if waiting or held:
            yield [*waiting, *held]

    def _end_of(self, versions: Sequence[FileVersion]) -> int | None:
        """Return where the versions of ``most`` keys end, if others follow."""
        for at, version in enumerate(versions):
            if version.key != self._last_key:
                if self._keys == self._most:
                    return at
                self._last_key, self._keys = version.key, self._keys + 1
        return None


def _without_last_key(
    versions: Sequence[FileVersion],
) -> tuple[Sequence[FileVersion], Sequence[FileVersion]]:
    """Part the last key, or else the last version, from all others."""
    at = len(versions) - 1
    while at > 0 and versions[at - 1].key == versions[-1].key:
        at -= 1
    at = at or len(versions) - 1
    return versions[:at], versions[at:]


async def versions_of_keys(
    storage: BackblazeStorage,
    keys: Sequence[str],
    on_error: Callable[[str, StorageError], None],
) -> AsyncIterator[Sequence[FileVersion]]:
    """Yield the versions of these keys, in their order. 1 request for each key.

    Args:
        on_error: Called with a key that cannot be listed, which is then left out.
    """
    batch: list[FileVersion] = []
    page_size = version_requests.PAGE_VERSIONS
    for first in range(0, len(keys), _LISTINGS_AT_ONCE):
        some = keys[first : first + _LISTINGS_AT_ONCE]
        pages = await gather_some(partial(_first_page, storage, key, on_error) for key in some)
        for key, page in zip(some, pages, strict=True):
            if len(page) < page_size:
                batch += page
                continue
            async with aclosing(_versions_of(storage, key)) as all_pages:
                async for more in all_pages:
                    complete, batch = [*batch, *more[:-1]], [more[-1]]
                    yield complete
        if len(batch) >= page_size:
            yield batch
            batch = []
    if batch:
        yield batch


async def _first_page(
    storage: BackblazeStorage, key: str, on_error: Callable[[str, StorageError], None]
) -> list[FileVersion]:
    try:
        async with aclosing(_versions_of(storage, key)) as pages:
            return await anext(pages, [])
    except StorageError as error:
        on_error(key, error)
        return []


async def _versions_of(storage: BackblazeStorage, key: str) -> AsyncGenerator[list[FileVersion]]:
    with storage._call("run_job", key):
        requests = storage._context().requests
        async with aclosing(version_requests.versions_of_key(requests, existing_key(key))) as pages:
            async for page in pages:
                yield page
