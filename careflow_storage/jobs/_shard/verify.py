"""Verifies a shard: compares sizes and ETags, and where asked the bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator

from careflow_storage.errors import StorageError
from careflow_storage.jobs._shard.comparison import Likeness, compare, is_stamped
from careflow_storage.jobs._shard.context import ShardContext, ShardSpan
from careflow_storage.jobs._shard.listing import Pair
from careflow_storage.jobs._shard.pairs import work_on_pairs
from careflow_storage.jobs.models import VerifyJob
from careflow_storage.jobs.results import ObjectError


async def verify_shard(context: ShardContext) -> ShardSpan:
    """Compare the objects of a shard. Differences are errors of the outcome."""
    job = context.task.job
    assert isinstance(job, VerifyJob)  # noqa: S101 - for type checkers
    verifier = _Verifier(context, job)
    return await work_on_pairs(
        context,
        job,
        source_only=False,
        settle=verifier.settle,
        size_of=lambda pair: pair.source.size if job.deep and pair.source is not None else 0,
        work=verifier.verify_pair,
    )


class _Verifier:
    """Compares one pair after another."""

    def __init__(self, context: ShardContext, job: VerifyJob) -> None:
        self._context = context
        self._job = job
        self._source = context.storages["source"]
        self._target = context.storages["target"]

    async def verify_pair(self, pair: Pair) -> None:
        """Compare two objects by the target's metadata, or by their bytes."""
        try:
            await self._compare_further(pair)
        except StorageError as error:
            self._context.add_error(pair.key, error)

    def settle(self, pair: Pair) -> bool:
        """Count a pair if no more requests are needed to compare it."""
        source, target = pair.source, pair.target
        if source is None:
            where = "on the source" if target is not None else "on both sides"
            self._differs(pair.key, "MissingOnSource", f"The object is missing {where}.")
        elif target is None:
            text = f"The object {pair.to_key!r} is missing on the target."
            self._differs(pair.key, "MissingOnTarget", text)
        elif source.size != target.size:
            text = f"The source has {source.size} bytes, the target {target.size}."
            self._differs(pair.key, "SizeDiffers", text)
        elif compare(source, target) is Likeness.SAME and not self._job.deep:
            self._same(source.size)
        else:
            return False
        return True

    def _same(self, size: int) -> None:
        self._context.outcome.objects += 1
        self._context.outcome.bytes += size

    def _differs(self, key: str, kind: str, message: str) -> None:
        error = ObjectError(key=key, kind=kind, message=message)
        self._context.outcome.errors.append(error)

    async def _compare_further(self, pair: Pair) -> None:
        assert pair.source is not None  # noqa: S101 - `settle` has reported it
        assert pair.target is not None  # noqa: S101
        if self._job.deep:
            await self._compare_bytes(pair, pair.source.size)
        elif await is_stamped(self._target, pair.to_key, pair.source):
            self._same(pair.source.size)
        elif compare(pair.source, pair.target) is Likeness.OTHER_ETAG:
            text = f"The source's ETag is {pair.source.etag}, the target's {pair.target.etag}."
            self._differs(pair.key, "ContentDiffers", text)
        else:
            text = (
                "The ETags cannot be compared: one depends on the sizes of the parts. "
                "Hint: verify this object with deep=True."
            )
            self._differs(pair.key, "NotComparable", text)

    async def _compare_bytes(self, pair: Pair, size: int) -> None:
        ours = self._source.stream_file(pair.key)
        theirs = self._target.stream_file(pair.to_key)
        async with ours, theirs:
            different = await _first_difference(aiter(ours), aiter(theirs))
        if different is None:
            self._same(size)
        else:
            text = f"The bytes differ, the first at position {different}."
            self._differs(pair.key, "ContentDiffers", text)


async def _first_difference(ours: AsyncIterator[bytes], theirs: AsyncIterator[bytes]) -> int | None:
    """Return the position of the first byte that differs, or None. One chunk of each in memory."""
    position, one, other = 0, memoryview(b""), memoryview(b"")
    while True:
        one = one or memoryview(await anext(ours, b""))
        other = other or memoryview(await anext(theirs, b""))
        length = min(len(one), len(other))
        if length == 0:
            return None if len(one) == len(other) else position
        if one[:length] != other[:length]:
            pairs = zip(one, other, strict=False)
            return position + next(n for n, (left, right) in enumerate(pairs) if left != right)
        position, one, other = position + length, one[length:], other[length:]
