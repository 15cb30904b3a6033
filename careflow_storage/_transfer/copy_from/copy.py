"""Copies one object between two storages."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import NamedTuple

from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.copy_from.options import CopyOptions
from careflow_storage._transfer.copy_from.parts import PartsCopy
from careflow_storage._transfer.copy_from.server_side import server_side_copy
from careflow_storage._transfer.copy_from.source import CopyStream
from careflow_storage._transfer.progress import ProgressCallback, check_progress, metered
from careflow_storage._transfer.upload.existing import (
    existing_result,
    find_existing,
    may_be_cut_off,
    refuse_existing,
    result_or_refuse,
)
from careflow_storage._transfer.upload.upload import upload
from careflow_storage.errors import InvalidInputError, PreconditionFailedError
from careflow_storage.models import UploadResult
from careflow_storage.protection import CustomerKey

# Such a body is read at once: a stream costs several times as much as its bytes.
_READ_AT_ONCE_BYTES = 256 * 1024


class CopyTask(NamedTuple):
    """What is copied from where to where."""

    target: TransferContext
    to_key: str
    source: TransferContext
    key: str
    version_id: str | None
    encryption: CustomerKey | None
    options: CopyOptions

    @property
    def same_account(self) -> bool:
        """Whether both storages have the same endpoint and the same application key."""
        target, source = self.target, self.source
        return target is source or (
            target.session.same_account(source.session)
            and target.settings.endpoint == source.settings.endpoint
        )

    def refuse_itself(self) -> None:
        """Raise `InvalidInputError` for a copy of the newest version onto its own key."""
        same_bucket = self.target.requests.bucket == self.source.requests.bucket
        if self.same_account and same_bucket and self.key == self.to_key:
            raise InvalidInputError(
                "A file cannot be copied onto itself.",
                hint="admin.copy_file puts an old version on top, or changes the metadata.",
            )


async def copy_from(task: CopyTask, progress: ProgressCallback | None) -> UploadResult:
    """Copy one version of an object, verified, within bounded memory.

    A small object costs 1 GET and 1 PUT. Its size is not known before, so the GET asks for as
    much as one PUT may store; of a larger object the response ends after its head.
    """
    check_progress(progress)
    target, options = task.target, task.options.upload
    given = options.headers(target.settings.endpoint)
    task.refuse_itself()
    cut_off: ObjectHead | None = None
    if options.return_existing:
        cut_off = await find_existing(target, task.to_key, given)
        if cut_off is not None and not may_be_cut_off(cut_off):
            return result_or_refuse(target, cut_off)
    elif not options.replaces and not options.resume:
        await refuse_existing(target, task.to_key, given)
    try:
        if task.same_account and cut_off is None:
            made = await server_side_copy(
                *(target, task.to_key, task.source, task.key, task.options, given),
                version_id=task.version_id,
                encryption=task.encryption,
            )
            if made is not None:
                return made
        return await _stream_copy(task, given, progress, cut_off)
    except PreconditionFailedError:
        if not options.return_existing:
            raise
        # Another writer was faster, unless the source was replaced.
        existing = await existing_result(target, task.to_key, given)
        if existing is None:
            raise
        return existing


async def _stream_copy(
    task: CopyTask,
    given: dict[str, str],
    progress: ProgressCallback | None,
    cut_off: ObjectHead | None,
) -> UploadResult:
    target, options = task.target, task.options
    most = target.settings.multipart_threshold
    stream = CopyStream(
        task.source, task.key, most, version_id=task.version_id, encryption=task.encryption
    )
    async with stream as head:
        headers = options.headers(head, given)
        if head.file.size <= most:
            chunks = stream.chunks()
            body: bytes | AsyncGenerator[bytes] = chunks
            if head.file.size <= _READ_AT_ONCE_BYTES:
                body = b"".join([chunk async for chunk in chunks])
            sent = options.upload
            if sent.resume or not isinstance(body, bytes):
                sent = replace(sent, size=head.file.size, resume=False)
            result = await upload(
                *(target, task.to_key, body, sent),
                name=task.to_key,
                progress=progress,
                # Looked up above, unless an earlier run may have stored it.
                is_new=not options.upload.replaces and not options.upload.resume,
                cut_off=cut_off,
                kept=headers,
            )
            return result.model_copy(update={"partial": True}) if head.file.partial else result
    if cut_off is not None:
        # It was stored with one PUT, so it is not the beginning of this object.
        return result_or_refuse(target, cut_off)
    async with metered(progress, head.file.size) as meter:
        return await PartsCopy(
            *(target, task.to_key, task.source, head, headers, options.upload, meter),
            encryption=task.encryption,
        ).run()
