"""The keys of a file in place of a listing: 1 request for each key on each side."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from careflow_storage._transfer.tasks import task_group
from careflow_storage.errors import NoSuchKeyError
from careflow_storage.jobs._shard.context import ShardContext
from careflow_storage.jobs._shard.listing import KeyMap, Pair
from careflow_storage.models import FileInfo
from careflow_storage.storage import BackblazeStorage


async def each_of(keys: tuple[str, ...]) -> AsyncGenerator[str]:
    """Yield the keys, for `ShardContext.for_each`."""
    for key in keys:
        yield key


async def file_info(storage: BackblazeStorage, key: str) -> FileInfo | None:
    """Return what a listing would, or None if there is no such file. 1 HEAD."""
    try:
        found = await storage.get_file_metadata(key)
    except NoSuchKeyError:
        return None
    return FileInfo(key=key, size=found.size, last_modified=found.last_modified, etag=found.etag)


async def pair_of(context: ShardContext, names: KeyMap, key: str) -> Pair:
    """Return what each side has for a key of the source."""
    storages, to_key = context.storages, names.to_target(key)
    async with task_group() as group:
        source = group.create_task(file_info(storages["source"], key))
        target = group.create_task(file_info(storages["target"], to_key))
    return Pair(key, to_key, source.result(), target.result())
