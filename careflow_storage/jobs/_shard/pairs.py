"""Works on the pairs of a shard: those of a listing, or those of given keys."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from careflow_storage.errors import StorageError
from careflow_storage.jobs._shard.context import ShardContext, ShardSpan
from careflow_storage.jobs._shard.given_keys import each_of, pair_of
from careflow_storage.jobs._shard.listing import KeyMap, Pair, side_by_side
from careflow_storage.jobs.models import CopyJob, VerifyJob


async def work_on_pairs(
    context: ShardContext,
    job: CopyJob | VerifyJob,
    *,
    source_only: bool,
    settle: Callable[[Pair], bool],
    size_of: Callable[[Pair], int],
    work: Callable[[Pair], Awaitable[None]],
) -> ShardSpan:
    """Call ``work`` with the pairs that need more requests, up to the limits of the job's shards.

    Args:
        source_only: Whether to leave out keys that only the target has, in a listing.
        settle: Counts a pair and returns True, unless it needs more requests.
        size_of: How many bytes ``work`` will read for a pair.
    """
    whole, keys = context.task.range, context.task.keys
    if keys is not None:
        names = KeyMap.of(job)

        async def work_on_key(key: str) -> None:
            try:
                pair = await pair_of(context, names, key)
            except StorageError as error:
                context.add_error(key, error)
                return
            if not settle(pair):
                await work(pair)

        await context.for_each(each_of(keys), work_on_key)
        return ShardSpan(whole, None)
    last: str | None = None

    async def unsettled() -> AsyncGenerator[Pair]:
        nonlocal last
        count = size = 0
        async with aclosing(side_by_side(context, source_only=source_only)) as pairs:
            async for pair in pairs:
                if not settle(pair):
                    yield pair
                    size += size_of(pair)
                count += 1
                if count == job.shard_keys or size >= job.shard_bytes:
                    last = pair.key
                    return

    await context.for_each(unsettled(), work)
    return ShardSpan(whole, None) if last is None else ShardSpan.up_to(whole, last)
