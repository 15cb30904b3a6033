"""`make_seekable`: adds the duration and the index to a recording."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from careflow_storage._local_paths import local_file_errors
from careflow_storage._log_fields import log_fields
from careflow_storage._s3.headers.kept import kept_headers
from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage._s3.requests.versions import versions_of_key
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.download.stream import FileStream
from careflow_storage._transfer.upload.existing import result_of
from careflow_storage._transfer.upload.marker import MARKER_HEADER
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage._transfer.upload.upload import upload
from careflow_storage._uninterrupted import clean_up_to_end
from careflow_storage.errors import (
    AccessDeniedError,
    PreconditionFailedError,
    StorageError,
)
from careflow_storage.media._tasks import Limits, MiB, run_task
from careflow_storage.media.errors import MediaProcessError
from careflow_storage.models import Checksum, UploadResult
from careflow_storage.protection import CustomerKey, Encryption, Retention
from careflow_storage.storage import BackblazeStorage

logger: logging.Logger = logging.getLogger("careflow_storage")

# The output, the output again to move the index to its front, and to compare it.
_LIMITS = Limits(cpu_seconds=30, cpu_seconds_per_mib=2, memory=384 * MiB, files=3, writes=True)

_COMPARED_VERSIONS = 100


async def make_seekable(
    storage: BackblazeStorage,
    key: str,
    *,
    encryption: CustomerKey | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - as every method of the storage
) -> UploadResult:
    """Give a recording its duration and an index, so that players show it and seek.

    For what a browser's MediaRecorder writes (WebM, Matroska, and MP4 in fragments), and for WAV
    whose header does not have the true size. The audio and video stay as they are: packets are
    copied, not encoded, and compared afterwards. Stores a new version with the same content
    type, metadata, cache headers, encryption, retention and legal hold. The old version stays
    until a lifecycle rule or a purge erases it.

    If the recording is seekable already, or has another format, nothing is stored: 1 HEAD and 1
    to 3 GETs of about 64 KiB, and ``reused`` of the result is the size of the file. Otherwise
    about 4 GETs, another HEAD, the requests of the upload and, with versions, 1 listing. It takes
    a temporary file of the recording's size in ``TMPDIR``. A child process with limits reads and
    writes the file; see `probe`.

    If the recording is replaced or deleted meanwhile, it stays so. B2 has no conditional upload:
    what happens while the upload itself runs is found afterwards in the list of versions (which
    needs listFiles), and the new version is erased again.

    Args:
        storage: An open storage.
        key: The key of the recording.
        encryption: The `CustomerKey` that it was stored with, if it was. Without a change the file
            is then read once, since the server does not report its checksum.
        timeout: The most seconds for the whole call.

    Raises:
        MissingExtraError: The extra ``media`` is not installed.
        UnsupportedMediaError: The file is no media, is damaged, or has streams that cannot be
            kept, such as subtitles. Samples without a header have no place for a duration.
        PreconditionFailedError: The recording was replaced meanwhile.
        NoSuchKeyError: It does not exist or is hidden, or was deleted meanwhile.
        LocalFileError: The disk is full.
        StorageError: See `careflow_storage.errors`.
    """
    async with storage._call("make_seekable", key, timeout):
        context = storage._context()
        async with _temporary_file(context) as output:
            head, facts = await run_task(
                storage,
                "remux",
                key,
                _LIMITS,
                version_id=None,
                encryption=encryption,
                format=None,
                job={"output": str(output)},
            )
            if type(facts.get("changed")) is not bool:
                raise MediaProcessError("The media process sent a malformed result.")
            if not facts["changed"]:
                return result_of(context, head) or await _with_checksum(context, head, encryption)
            return await _replace(storage, head, output, encryption)


async def _replace(
    storage: BackblazeStorage, before: ObjectHead, output: Path, key: CustomerKey | None
) -> UploadResult:
    """Store the output as a new version, unless the file was replaced meanwhile."""
    context, file = storage._context(), before.file
    now = (await storage._head(file.key, None, key)).file
    if (now.version_id, now.etag) != (file.version_id, file.etag):
        raise PreconditionFailedError(
            "The file was replaced while it was read; nothing was stored.", key=file.key
        )
    encryption: Encryption | None = key or ("SSE-B2" if file.encryption == "SSE-B2" else None)
    options = UploadOptions(
        encryption=encryption,
        retention=_running(file.retention),
        legal_hold=file.legal_hold,
        default_checksum=context.settings.checksum,
    )
    result = await upload(
        context,
        file.key,
        output,
        options,
        name=file.key,
        progress=None,
        kept={name: value for name, value in kept_headers(before).items() if name != MARKER_HEADER},
    )
    await _check_history(context, before, result)
    return result.model_copy(update={"partial": file.partial})


async def _check_history(
    context: TransferContext, before: ObjectHead, result: UploadResult
) -> None:
    """Erase the new version if another one was stored during its upload.

    Raises:
        PreconditionFailedError: So it was.
    """
    key, version_id = result.key, result.version_id
    if version_id is None:
        return
    try:
        async with aclosing(
            versions_of_key(context.requests, key, limit=_COMPARED_VERSIONS)
        ) as pages:
            found = [version.version_id for version in await anext(pages, [])]
    except StorageError as error:
        level = logging.DEBUG if isinstance(error, AccessDeniedError) else logging.WARNING
        logger.log(
            level,
            "the versions of %r were not compared: %s",
            key,
            error,
            extra=log_fields("versions_not_compared", error, key=key),
        )
        return
    if version_id not in found[:-1] or before.file.version_id not in found:
        return
    at = found.index(version_id)
    # Versions that were stored later are newer than this one: they are on top anyway.
    if found[at + 1] == before.file.version_id:
        return
    replaced = PreconditionFailedError(
        "The file was replaced while its new version was uploaded.", key=key
    )
    try:
        await context.requests.delete_object(key, version_id=version_id)
    except StorageError as error:
        replaced.hint = f"The new version {version_id} could not be erased: {error.message}"
    raise replaced


def _running(retention: Retention | None) -> Retention | None:
    """Return a retention that has not ended."""
    if retention is None or retention.retain_until <= datetime.now(UTC):
        return None
    return retention


async def _with_checksum(
    context: TransferContext, head: ObjectHead, key: CustomerKey | None
) -> UploadResult:
    """Return the result for a file whose checksum the server does not report."""
    digest = hashlib.md5(usedforsecurity=False)
    stream = FileStream(context, head.file.key, head=head, verify=False, encryption=key)
    async with aclosing(stream):
        async for chunk in stream:
            await context.threads.run(digest.update, chunk)
    checksum = Checksum(algorithm="md5", value=digest.hexdigest())
    result = result_of(context, head, checksum)
    if result is None:
        raise RuntimeError("a result needs a checksum")
    return result


@asynccontextmanager
async def _temporary_file(context: TransferContext) -> AsyncIterator[Path]:
    """Create a file for its owner only, and remove it after the block."""
    threads = context.threads
    folder = await threads.run(tempfile.gettempdir)
    path = Path(folder) / f"careflow-storage-media-{secrets.token_hex(8)}"
    try:
        with local_file_errors("create", path):
            await threads.run(_create, path)
        yield path
    finally:
        await clean_up_to_end(threads.clean_up(lambda: path.unlink(missing_ok=True)))


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
