"""One upload, from any body to a confirmed object: a single PUT or a multipart upload."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from careflow_storage.errors import (
    InvalidInputError,
    NoSuchKeyError,
    NotSupportedError,
    PreconditionFailedError,
    ServiceUnavailableError,
)
from careflow_storage.models import Checksum, ChecksumAlgorithm
from careflow_storage.recordings import detect_content_type
from careflow_storage.s3.metadata import encode_metadata, is_header_value
from careflow_storage.s3.requests import Stored
from careflow_storage.transfer.checksums import request_headers, verify_stored
from careflow_storage.transfer.engine import Engine
from careflow_storage.transfer.mark import MARK_HEADER, UploadMark
from careflow_storage.transfer.multipart import MultipartUpload
from careflow_storage.transfer.parts import Part, PartSizes, check_size
from careflow_storage.transfer.progress import Meter, ProgressCallback, metered
from careflow_storage.transfer.reading import PartReader
from careflow_storage.transfer.sources import Source, UploadBody, open_source

logger = logging.getLogger("careflow_storage")


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """What is stored with the bytes, and how they are sent and checked."""

    content_type: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    metadata: Mapping[str, str] | None = None
    size: int | None = None
    checksum: ChecksumAlgorithm = "md5"
    overwrite: bool = True

    def headers(self) -> dict[str, str]:
        """Return the object's headers; raise `InvalidInputError` for what cannot be sent."""
        if self.checksum not in get_args(ChecksumAlgorithm):
            raise InvalidInputError(
                f"checksum must be one of {', '.join(get_args(ChecksumAlgorithm))}, "
                f"not {self.checksum!r}."
            )
        headers = encode_metadata(self.metadata or {})
        for name in ("content_type", "cache_control", "content_disposition"):
            value = getattr(self, name)
            if value is None:
                continue
            if not is_header_value(value):
                raise InvalidInputError(
                    f"{name} must be printable ASCII, not {value!r}.",
                    hint="For other characters use the form filename*=UTF-8''... (RFC 8187).",
                )
            headers[name.replace("_", "-")] = value
        return headers


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A confirmed object, as the facade needs it for its result."""

    stored: Stored
    size: int
    parts: int
    content_type: str
    checksum: Checksum


async def upload(
    engine: Engine,
    key: str,
    body: UploadBody,
    options: UploadOptions,
    *,
    name: str,
    progress: ProgressCallback | None,
) -> Uploaded:
    """Upload ``body`` to ``key``; ``name`` helps to tell its content type."""
    headers = options.headers()
    async with open_source(body, engine.threads, size=options.size) as source:
        if not options.overwrite:
            await _refuse_existing(engine, key)
        async with metered(progress, source.size) as meter:
            run = _Upload(engine, key, options, headers, name, source, meter)
            try:
                return await run.once()
            except ServiceUnavailableError as error:
                # All parts of one upload go to one vault of B2: when that stays busy, only a
                # new upload is routed elsewhere.
                busy_vault = error.operation == "UploadPart" and error.status == 503
                patient = engine.retry.pause_after(error, 1) is not None
                if not (busy_vault and patient and await source.rewind()):
                    raise
                logger.info("starting the upload anew: its vault stays busy", extra={"key": key})
                meter.restart()
                return await run.once()


async def _refuse_existing(engine: Engine, key: str) -> None:
    try:
        await engine.requests.head_object(key)
    except NoSuchKeyError:
        return
    raise PreconditionFailedError(
        "The key exists already.", operation="upload_file", key=key, status=412
    )


class _Upload:
    def __init__(
        self,
        engine: Engine,
        key: str,
        options: UploadOptions,
        headers: dict[str, str],
        name: str,
        source: Source,
        meter: Meter,
    ) -> None:
        self._engine = engine
        self._key = key
        self._options = options
        self._headers = headers
        self._name = name
        self._source = source
        self._meter = meter
        # B2 answers 501 to If-None-Match: there the HEAD before is all that can be had.
        self._conditional = not options.overwrite and not engine.settings.is_b2

    async def once(self) -> Uploaded:
        engine, settings, size = self._engine, self._engine.settings, self._source.size
        reader = PartReader(self._source, engine.budget, engine.threads)
        if size is not None and size <= settings.multipart_threshold:
            # One byte more than declared shows a body that is too long.
            return await self._put(await reader.read(size + 1))
        sizes = PartSizes(settings.part_size, size)
        first = await reader.read(sizes.size_of(1))
        if size is None and first.size < sizes.size_of(1):
            return await self._put(first)
        return await self._send_in_parts(first, reader, sizes)

    async def _send_in_parts(self, first: Part, reader: PartReader, sizes: PartSizes) -> Uploaded:
        self._tell_content_type(first)
        upload = MultipartUpload(
            self._engine,
            self._key,
            self._headers,
            reader,
            sizes,
            self._meter,
            algorithm=self._options.checksum,
            conditional=self._conditional,
        )
        stored, checksum = await upload.run(first, self._source.size)
        return Uploaded(stored, upload.size, upload.parts, self._headers["content-type"], checksum)

    async def _put(self, part: Part) -> Uploaded:
        self._tell_content_type(part)
        algorithm = self._options.checksum
        try:
            check_size(self._source.size, part.size, ended=True, key=self._key)
            digest = await part.digest(algorithm, self._engine.threads)
            stored = await self._put_once_or_twice(part, digest)
        finally:
            await part.release()
        verify_stored(algorithm, digest, stored)
        return Uploaded(
            stored,
            part.size,
            1,
            self._headers["content-type"],
            Checksum(algorithm=algorithm, value=digest.hex()),
        )

    async def _put_once_or_twice(self, part: Part, digest: bytes) -> Stored:
        check, payload_hash = request_headers(self._options.checksum, digest)
        headers = {**self._headers, **check}
        if not self._conditional:
            return await self._put_object(part, headers, payload_hash)
        mark = UploadMark.new(PartSizes(part.size, part.size))
        headers |= {MARK_HEADER: str(mark), "if-none-match": "*"}
        try:
            return await self._put_object(part, headers, payload_hash)
        except NotSupportedError:
            self._conditional = False
            return await self._put_once_or_twice(part, digest)
        except PreconditionFailedError:
            # Was it our own first attempt, whose answer was lost, that is in the way?
            head = await self._engine.requests.head_object(self._key)
            if head.upload_mark != str(mark):
                raise
            return Stored(head.file.etag, head.file.version_id, {})

    async def _put_object(self, part: Part, headers: dict[str, str], payload_hash: str) -> Stored:
        meter = self._meter.part()
        stored = await self._engine.requests.put_object(
            self._key,
            part.payload(),
            headers,
            payload_hash=payload_hash,
            on_sent=meter.reach,
        )
        meter.reach(part.size)
        return stored

    def _tell_content_type(self, first: Part) -> None:
        if "content-type" not in self._headers:
            self._headers["content-type"] = detect_content_type(self._name, first.head)
