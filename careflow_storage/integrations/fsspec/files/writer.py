"""Writes one object while its bytes arrive, for one open file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Unpack, cast

from careflow_storage._transfer.live.writer import RecordingWriter
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage.errors import InvalidInputError, NoSuchKeyError
from careflow_storage.models import UploadResult
from careflow_storage.options import ObjectOptions, check_options
from careflow_storage.recordings import validate_key
from careflow_storage.storage import BackblazeStorage

if TYPE_CHECKING:
    from typing_extensions import Buffer

WriteMode = Literal["wb", "xb", "ab"]


def write_mode(mode: str) -> WriteMode:
    """Return the mode of a file that is written.

    Raises:
        InvalidInputError: It is none.
    """
    if mode not in ("wb", "xb", "ab"):
        raise InvalidInputError(f"The mode must be 'rb', 'wb', 'xb' or 'ab', not {mode!r}.")
    return cast("WriteMode", mode)


class ObjectWriter:
    """Writes one object: a single PUT, or parts that are sent while more bytes arrive.

    Nothing is stored before `commit`. `discard`, or an error of `write`, aborts the upload.
    """

    def __init__(self, storage: BackblazeStorage, key: str, writer: RecordingWriter) -> None:
        self._storage = storage
        self._key = key
        self._writer = writer
        self._ended = False

    @classmethod
    async def begin(
        cls,
        storage: BackblazeStorage,
        key: str,
        mode: WriteMode,
        **options: Unpack[ObjectOptions],
    ) -> ObjectWriter:
        """Begin to write.

        "wb" sends no request; "xb" sends 1 HEAD. "ab" sends 1 HEAD, and reads the existing object
        through this process, since S3 cannot append.

        Raises:
            PreconditionFailedError: The object exists, and the mode is "xb".
        """
        check_options("open", options)
        validate_key(key)
        appends = mode == "ab"
        existing = await _options_of(storage, key) if appends else None
        given: dict[str, Any] = {**(existing or {}), **options}
        writer = RecordingWriter(
            storage._context(),
            key,
            UploadOptions(
                **given,
                if_exists="error" if mode == "xb" else "replace",
                default_checksum=storage.settings.checksum,
            ),
            name=key,
        )
        self = cls(storage, key, writer)
        await writer.__aenter__()
        if existing is not None:
            await self._copy_existing()
        return self

    @property
    def size(self) -> int:
        """How many bytes were written."""
        return self._writer.bytes_written

    async def write(self, data: Buffer) -> None:
        """Append ``data``. Waits while all parts that may be in flight are in flight."""
        try:
            await self._writer.write(data)
        except BaseException as error:
            await self._end(error)
            raise

    async def commit(self) -> UploadResult:
        """Store the object, and return when the server has confirmed it."""
        await self._end(None)
        return self._writer.result

    async def discard(self) -> None:
        """Abort the upload, and store nothing. Safe to call twice."""
        await self._end(_DiscardedError())

    async def _end(self, error: BaseException | None) -> None:
        if not self._ended:
            self._ended = True
            await self._writer.__aexit__(type(error) if error else None, error, None)

    async def _copy_existing(self) -> None:
        try:
            async with self._storage.stream_file(self._key) as stream:
                async for chunk in stream:
                    await self._writer.write(chunk)
        except BaseException as error:
            await self._end(error)
            raise


class _DiscardedError(Exception):
    """Leaves the writer in place of the error that the caller had."""


async def _options_of(storage: BackblazeStorage, key: str) -> ObjectOptions | None:
    """Return what the object is stored with; None if there is none."""
    try:
        found = await storage.get_file_metadata(key)
    except NoSuchKeyError:
        return None
    return {
        "content_type": found.content_type,
        "metadata": found.metadata,
        "cache_control": found.cache_control,
        "content_disposition": found.content_disposition,
    }
