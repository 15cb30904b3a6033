"""Erases all versions and unfinished uploads of a key, or of all keys with a prefix."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import TypeVar

from careflow_storage._s3.error_codes import error_from_response
from careflow_storage._s3.requests.deletion import NULL_VERSION, delete_targets, explain_denial
from careflow_storage._s3.requests.versions import version_pages, versions_of_key
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.tasks import task_group
from careflow_storage.errors import AccessDeniedError, NoSuchUploadError, StorageError
from careflow_storage.models import DeleteResult, FileVersion, IncompleteUpload, PurgeResult

T = TypeVar("T")

# Requests that erase up to 1000 versions each. The listing is another request.
_BATCHES_AT_ONCE = 3
# S3 reports success if the version does not exist; some servers report these errors.
_GONE = frozenset({"NoSuchKey", "NoSuchVersion"})


async def purge_key(context: TransferContext, key: str) -> PurgeResult:
    """Erase all versions and delete markers of one key, and abort its unfinished uploads.

    Raises:
        FileLockedError: Object Lock protects a version; all others are erased.
        StorageError: A version could not be erased for another reason; others are erased.
    """
    purge = _Purge(context, key)
    await purge.run(versions_of_key(context.requests, key), exactly=True)
    return purge.result()


async def purge_prefix(
    context: TransferContext, prefix: str, *, dry_run: bool = False
) -> PurgeResult:
    """Like `purge_key`, for all keys with ``prefix``; with ``dry_run`` only count.

    Uses about 5 MiB of memory for any number of versions. Files that are stored while it runs may
    stay.
    """
    purge = _Purge(context, prefix, dry_run=dry_run)
    await purge.run(version_pages(context.requests, prefix))
    return purge.result()


class _Purge:
    def __init__(self, context: TransferContext, prefix: str, *, dry_run: bool = False) -> None:
        self._context = context
        self._prefix = prefix
        self._dry_run = dry_run
        self._aborting = asyncio.Semaphore(context.settings.transfer_concurrency)
        self._versions = 0
        self._markers = 0
        self._bytes = 0
        self._uploads = 0
        self._left = 0
        self._first_left: DeleteResult | None = None
        self._unaborted: StorageError | None = None

    def result(self) -> PurgeResult:
        return PurgeResult(
            key=self._prefix,
            versions=self._versions,
            delete_markers=self._markers,
            uploads=self._uploads,
            bytes=self._bytes,
        )

    async def run(
        self, versions: AsyncGenerator[list[FileVersion]], *, exactly: bool = False
    ) -> None:
        try:
            # First: an upload that is completed later would become a version that is not listed.
            await self._each(self._upload_pages(exactly), self._abort)
            await self._each(versions, self._erase)
        except StorageError as error:
            error.add_note(f"Erased before the error: {self._summary()}.")
            raise
        if self._first_left is not None:
            raise await self._failure(self._first_left)
        if self._unaborted is not None:
            self._unaborted.add_note(f"Everything else was erased: {self._summary()}.")
            raise self._unaborted

    async def _each(
        self, pages: AsyncGenerator[Sequence[T]], work: Callable[[Sequence[T]], Awaitable[None]]
    ) -> None:
        window = asyncio.Semaphore(_BATCHES_AT_ONCE)

        async def do(page: Sequence[T]) -> None:
            try:
                await work(page)
            finally:
                window.release()

        async with aclosing(pages), aclosing(_delayed(pages)) as delayed, task_group() as group:
            async for page in delayed:
                await window.acquire()
                group.create_task(do(page))

    async def _upload_pages(self, exactly: bool) -> AsyncGenerator[list[IncompleteUpload]]:
        async with aclosing(self._context.control.incomplete_pages(self._prefix)) as pages:
            async for page in pages:
                yield [each for each in page.uploads if not exactly or each.key == self._prefix]

    async def _abort(self, uploads: Sequence[IncompleteUpload]) -> None:
        async with task_group() as group:
            for upload in uploads:
                group.create_task(self._abort_one(upload))

    async def _abort_one(self, upload: IncompleteUpload) -> None:
        async with self._aborting:
            try:
                # It may no longer exist: our own abort lost its response, or its owner ended it.
                with suppress(NoSuchUploadError):
                    if not self._dry_run:
                        await self._context.multipart.abort(upload.key, upload.upload_id)
            except StorageError as error:
                self._unaborted = self._unaborted or error
            else:
                self._uploads += 1

    async def _erase(self, versions: Sequence[FileVersion]) -> None:
        if self._dry_run:
            for version in versions:
                self._count(version)
            return
        targets = [(each.key, each.version_id or NULL_VERSION) for each in versions]
        try:
            results: Sequence[DeleteResult] = await delete_targets(self._context.requests, targets)
        except StorageError as error:
            self._note(versions, error.results)
            raise
        self._note(versions, results)

    def _note(self, versions: Sequence[FileVersion], results: Sequence[DeleteResult]) -> None:
        # Shorter if a request failed: it has no results.
        for version, result in zip(versions, results, strict=False):
            if result.deleted or result.error_code in _GONE:
                self._count(version)
            else:
                self._left += 1
                self._first_left = self._first_left or result

    def _count(self, version: FileVersion) -> None:
        if version.delete_marker:
            self._markers += 1
        else:
            self._versions += 1
            self._bytes += version.size

    async def _failure(self, left: DeleteResult) -> StorageError:
        error = error_from_response(
            operation="DeleteObjects",
            bucket=self._context.requests.bucket,
            key=left.key,
            status=200,
            code=left.error_code,
            message=left.error_message,
            headers={},
        )
        if isinstance(error, AccessDeniedError) and left.version_id is not None:
            error = await explain_denial(self._context.requests, left.key, left.version_id, error)
        count = "One version was" if self._left == 1 else f"{self._left} versions were"
        error.message = (
            f"{count} not erased; {self._summary()} were. The first of them is the version "
            f"{left.version_id} of {left.key!r}: {error.message}"
        )
        return error

    def _summary(self) -> str:
        return (
            f"{self._versions} versions, {self._markers} delete markers, "
            f"{self._uploads} unfinished uploads"
        )


async def _delayed(pages: AsyncGenerator[Sequence[T]]) -> AsyncGenerator[Sequence[T]]:
    """Yield each page only after the next one has arrived.

    A page is requested by the last entry of the page before. Some servers cannot continue from
    an entry that was erased meanwhile.
    """
    held: Sequence[T] = ()
    async for page in pages:
        if held:
            yield held
        held = page
    if held:
        yield held
