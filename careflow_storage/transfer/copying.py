"""Copies within the bucket, made by the server: no byte of them comes here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from careflow_storage.errors import StorageError
from careflow_storage.s3.metadata import META_PREFIX, PARTIAL_MARK
from careflow_storage.s3.requests import Stored
from careflow_storage.transfer.engine import Engine
from careflow_storage.transfer.multipart import MultipartUpload
from careflow_storage.transfer.parts import PartSizes
from careflow_storage.transfer.tasks import task_group

logger = logging.getLogger("careflow_storage")

# AWS "CopyObject" and B2 "S3 Copy Object": larger objects are copied part by part.
MAX_COPY_BYTES = 5_000_000_000
_COPIED_PART_BYTES = 1024 * 1024 * 1024
PARTIAL_HEADER = f"{META_PREFIX}{PARTIAL_MARK}"


@dataclass(frozen=True, slots=True)
class CopySource:
    """What to copy: one version of a key, and its size in bytes."""

    key: str
    version_id: str | None
    size: int


async def copy(engine: Engine, source: CopySource, key: str, headers: Mapping[str, str]) -> Stored:
    """Copy an object of any size; ``headers`` (all of them) take the place of its own.

    Up to 5 GB 1 request, whose ETag is then that of a single PUT on most servers; beyond, 1 per
    GiB and 2 more. A failure leaves nothing behind.
    """
    await engine.control.prepare()
    if source.size <= MAX_COPY_BYTES:
        return await engine.control.copy_object(source.key, source.version_id, key, headers)
    return await _copy_in_parts(engine, source, key, headers)


async def _copy_in_parts(
    engine: Engine, source: CopySource, key: str, headers: Mapping[str, str]
) -> Stored:
    sizes = PartSizes(_COPIED_PART_BYTES, source.size)
    upload = MultipartUpload(engine, key, headers, sizes, algorithm="md5")
    window = asyncio.Semaphore(engine.settings.transfer_concurrency)

    async def copy_part(number: int, start: int) -> None:
        async with window:
            end = min(start + sizes.base, source.size)
            await upload.copy(number, source.key, source.version_id, start=start, end=end)

    try:
        await upload.begin()
        async with task_group() as group:
            for number, start in enumerate(range(0, source.size, sizes.base), start=1):
                group.create_task(copy_part(number, start))
        stored, _ = await upload.complete()
    except BaseException as error:
        await upload.abandon(error)
        raise
    return stored


async def mark_partial(
    engine: Engine, key: str, stored: Stored, size: int, headers: Mapping[str, str]
) -> Stored:
    """Give a stored object the mark of a recording that was cut off.

    Metadata can be changed by a copy alone: of this very version onto its own key, after which
    the version without the mark is erased. 2 requests (see `copy` for more than 5 GB). If the
    application key may not erase, the unmarked version stays behind the marked one.
    """
    marked = await copy(
        engine,
        CopySource(key, stored.version_id, size),
        key,
        {**headers, PARTIAL_HEADER: "true"},
    )
    if stored.version_id is not None and stored.version_id != marked.version_id:
        try:
            await engine.requests.delete_object(key, version_id=stored.version_id)
        except StorageError as error:
            logger.warning(
                "The version without the partial mark could not be erased: %s",
                error,
                extra={"key": key, "version_id": stored.version_id, "code": error.code},
            )
    return marked
