"""Copies the objects of a shard that the target lacks."""

from __future__ import annotations

from careflow_storage.errors import InvalidInputError, PreconditionFailedError, StorageError
from careflow_storage.jobs._records.keys import is_record
from careflow_storage.jobs._records.uploads import UploadRecords
from careflow_storage.jobs._shard.comparison import (
    Likeness,
    compare,
    is_plain,
    is_stamped,
)
from careflow_storage.jobs._shard.context import ShardContext, ShardSpan
from careflow_storage.jobs._shard.listing import Pair
from careflow_storage.jobs._shard.pairs import work_on_pairs
from careflow_storage.jobs.models import CopyJob
from careflow_storage.jobs.results import ObjectError
from careflow_storage.models import FileInfo


async def copy_shard(context: ShardContext) -> ShardSpan:
    """Copy what is missing on the target or differs; count what is there."""
    job = context.task.job
    assert isinstance(job, CopyJob)  # noqa: S101 - for type checkers
    copier = _Copier(context, job)
    return await work_on_pairs(
        context,
        job,
        source_only=True,
        settle=copier.settle,
        size_of=lambda pair: 0 if pair.source is None else pair.source.size,
        work=copier.copy_pair,
    )


class _Copier:
    """Copies one object after another."""

    def __init__(self, context: ShardContext, job: CopyJob) -> None:
        self._context = context
        self._outcome = context.outcome
        self._job = job
        self._source = context.storages["source"]
        self._target = context.storages["target"]
        self._uploads = UploadRecords(self._target, job.job_id)

    def settle(self, pair: Pair) -> bool:
        """Count a pair that the metadata show to be equal, and a key that the source lacks."""
        if pair.source is None:
            text = "The source has no object with this key."
            error = ObjectError(key=pair.key, kind="NoSuchKeyError", message=text)
            self._outcome.errors.append(error)
            return True
        if pair.target is None or is_record(pair.to_key):
            return False
        if compare(pair.source, pair.target) is not Likeness.SAME:
            return False
        self._outcome.skipped += 1
        return True

    async def copy_pair(self, pair: Pair) -> None:
        """Copy an object, unless the target's metadata say that it is a copy already."""
        assert pair.source is not None  # noqa: S101 - `settle` has counted the others
        try:
            _refuse_record(pair.to_key)
            if pair.target is not None and not await self._is_wanted(pair, pair.target):
                self._outcome.skipped += 1
                return
            size = await self._copy(pair, pair.source)
        except StorageError as error:
            self._context.add_error(pair.key, error)
        else:
            self._outcome.objects += 1
            self._outcome.bytes += size

    async def _is_wanted(self, pair: Pair, target: FileInfo) -> bool:
        """Whether to replace an object of the target that differs in size or ETag."""
        assert pair.source is not None  # noqa: S101 - `settle` has counted the others
        if pair.source.size == target.size and await is_stamped(
            self._target, pair.to_key, pair.source
        ):
            return False
        if self._job.if_exists == "error":
            raise PreconditionFailedError(
                "The target has a different object under this key.", key=pair.to_key
            )
        return self._job.if_exists == "replace"

    async def _copy(self, pair: Pair, source: FileInfo) -> int:
        """Copy an object, unless this is a dry run; return its size.

        1 GET and 1 PUT. For an object in parts as many for each part, and 9 more: it continues
        where an earlier run was interrupted.
        """
        if self._context.task.dry_run:
            return source.size
        if source.size < self._target.settings.multipart_threshold:
            return await self._transfer(pair, source, in_parts=False)
        async with self._uploads.uploading(pair.to_key):
            return await self._transfer(pair, source, in_parts=True)

    async def _transfer(self, pair: Pair, source: FileInfo, *, in_parts: bool) -> int:
        job, differing = self._job, self._context.differing_etags
        # The ETag of a copy in parts depends on the sizes of its parts.
        stamped = in_parts or not is_plain(source.etag) or job.target in differing
        copied = await self._target.copy_from(
            self._source,
            pair.key,
            pair.to_key,
            content_type=job.content_type,
            metadata=job.metadata,
            cache_control=job.cache_control,
            content_disposition=job.content_disposition,
            encryption=job.encryption,
            retention=job.retention,
            legal_hold=job.legal_hold,
            stamp_source_etag=stamped,
            resume=in_parts,
        )
        if not stamped and copied.size == source.size and copied.etag != source.etag:
            # The target encrypts: its ETags are no MD5s, and say nothing about later copies.
            differing.add(job.target)
        return copied.size


def _refuse_record(key: str) -> None:
    """Raise `InvalidInputError` for a key that the records of a job have."""
    if is_record(key):
        raise InvalidInputError(
            "The copy would be a record of a job, on which no job works.",
            key=key,
            hint="Choose another target_prefix.",
        )
