"""The current files of a shard, listed or looked up, for jobs in one bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial

from careflow_storage.errors import NoSuchKeyError, StorageError
from careflow_storage.jobs._shard.concurrently import gather_some
from careflow_storage.jobs._shard.context import ShardContext, ShardSpan
from careflow_storage.jobs._shard.given_keys import file_info
from careflow_storage.jobs._shard.listing import files_in, within
from careflow_storage.models import FileInfo

_LOOKED_UP_AT_ONCE = 100


class FilesOfShard:
    """The files of a shard, until it has enough keys or bytes.

    Records of jobs are left out and do not count: every shard adds one, so a job would follow its
    own without end.

    Attributes:
        span: The keys that were yielded, and the rest. For the time after the last page.
    """

    def __init__(self, context: ShardContext) -> None:
        self._context = context
        self._storage = context.storages["location"]
        self.span = ShardSpan(context.task.range, None)

    async def pages(self) -> AsyncIterator[Sequence[FileInfo]]:
        """Yield the files. 1 request per 1000, or 1 for each given key."""
        pages = self._listed() if self._context.task.keys is None else self._looked_up()
        async for page in pages:
            if page:
                yield page

    async def _listed(self) -> AsyncIterator[Sequence[FileInfo]]:
        job, whole = self._context.task.job, self._context.task.range
        keys = within(whole, job.prefix)
        if keys is None:
            return
        count = size = 0
        async with aclosing(files_in(self._storage, job.prefix, keys)) as pages:
            async for page in pages:
                for at, file in enumerate(page, 1):
                    count, size = count + 1, size + file.size
                    if count == job.shard_keys or size >= job.shard_bytes:
                        self.span = ShardSpan.up_to(whole, file.key)
                        yield page[:at]
                        return
                yield page

    async def _looked_up(self) -> AsyncIterator[Sequence[FileInfo]]:
        keys = self._context.task.keys or ()
        for first in range(0, len(keys), _LOOKED_UP_AT_ONCE):
            some = keys[first : first + _LOOKED_UP_AT_ONCE]
            found = await gather_some(partial(self._look_up, key) for key in some)
            yield [file for file in found if file is not None]

    async def _look_up(self, key: str) -> FileInfo | None:
        try:
            found = await file_info(self._storage, key)
            if found is None:
                raise NoSuchKeyError("The file does not exist.", operation="HeadObject", key=key)
        except StorageError as error:
            self._context.add_error(key, error)
            return None
        return found
