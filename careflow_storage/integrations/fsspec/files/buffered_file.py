"""`CareflowFile`: an open file of a `CareflowFileSystem`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from careflow_storage.errors import MissingExtraError

try:
    from fsspec.asyn import sync
    from fsspec.spec import AbstractBufferedFile
except ImportError as error:
    raise MissingExtraError("fsspec") from error

from careflow_storage.integrations.fsspec.errors import is_a_directory, os_errors
from careflow_storage.integrations.fsspec.files.fetcher import RangeFetcher, start_in
from careflow_storage.integrations.fsspec.files.writer import ObjectWriter, WriteMode, write_mode

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from careflow_storage.integrations.fsspec.files.owner import FileOwner

DEFAULT_BLOCK_BYTES = 5 * 1024 * 1024


class CareflowFile(AbstractBufferedFile):
    """A file that ``CareflowFileSystem.open`` has opened, for reading or for writing.

    **Reading.** All reads return bytes of one version of the object. Reads that continue each
    other share one GET; a read elsewhere is a range request. ``cache_type`` and ``block_size``
    decide what is read ahead and kept (see fsspec). Memory: the cache, and 1 MiB.

    **Writing.** The bytes are sent in parts while more are written, and the object appears when
    the file is closed. An exception that leaves the ``with`` block aborts the upload, and nothing
    is stored; so does a file that is dropped without `close`. Memory: ``block_size``, and up to
    ``(transfer_concurrency + 1) * part_size`` within the storage's ``memory_budget``.

    Raises:
        OSError: A request failed; the `StorageError` is its ``__cause__``.
    """

    DEFAULT_BLOCK_SIZE = DEFAULT_BLOCK_BYTES

    def __init__(
        self,
        fs: FileOwner,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        *,
        autocommit: bool = True,
        cache_type: str = "readahead",
        cache_options: dict[str, Any] | None = None,
        details: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._writer: ObjectWriter | None = None
        self.fs: FileOwner = fs
        size: int | None = None
        if mode == "rb":
            if options:
                raise TypeError(f"open() got an unexpected keyword argument {min(options)!r}")
            self._details = details = details if details is not None else fs.info(path)
            if details["type"] == "directory":
                raise is_a_directory(path)
            size = details["size"]
            # fsspec's cache keeps it: a bound method would make a reference cycle.
            self._fetch_range = RangeFetcher(fs, path, details)
        super().__init__(
            fs,
            path,
            mode,
            block_size or self.DEFAULT_BLOCK_SIZE,
            autocommit=autocommit,
            cache_type=cache_type,
            cache_options=cache_options,
            size=size,
            **options,
        )
        if mode != "rb":
            with os_errors(path, exclusive=True):
                writer: ObjectWriter = sync(fs.loop, self._begin, write_mode(mode), options)
            self._writer, self.loc = writer, writer.size

    # --- writing ------------------------------------------------------------------------

    async def _begin(self, mode: WriteMode, options: dict[str, Any]) -> ObjectWriter:
        return await ObjectWriter.begin(await self.fs._storage(), self.path, mode, **options)

    def write(self, data: Buffer) -> int:
        """Append ``data``; return its length in bytes."""
        view = memoryview(data).cast("B")
        if view.nbytes < self.blocksize or not self.writable() or self.buffer.tell():
            return int(super().write(view))
        # A large piece needs no buffer.
        self._send(view)
        self.loc += view.nbytes
        return view.nbytes

    def _upload_chunk(self, final: bool = False) -> bool:
        with self.buffer.getbuffer() as view:
            if view.nbytes:
                self._send(view)
        if final and self.autocommit:
            self.commit()
        return True

    def _send(self, view: memoryview) -> None:
        with os_errors(self.path):
            sync(self.fs.loop, self._opened_writer().write, view)

    def commit(self) -> None:
        """Store the object. A transaction calls this when it ends."""
        with os_errors(self.path, exclusive=self.mode == "xb"):
            sync(self.fs.loop, self._opened_writer().commit)
        self.fs.invalidate_cache(self.path)

    def discard(self) -> None:
        """Abort the upload and store nothing. Safe to call twice."""
        self.closed = True
        if self._writer is not None:
            with os_errors(self.path):
                sync(self.fs.loop, self._writer.discard)

    def _opened_writer(self) -> ObjectWriter:
        if self._writer is None:
            raise ValueError("The file is not open for writing.")
        return self._writer

    # --- the end ------------------------------------------------------------------------

    def close(self) -> None:
        """Store what was written, or release the connection of a file that was read."""
        if self.closed:
            return
        try:
            super().close()
        except BaseException:
            self.discard()
            raise
        finally:
            if self.mode == "rb":
                self._fetch_range.close()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None and self.mode != "rb":
            self.discard()
        self.close()

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        # The garbage collector may run in any thread, which must not wait for the loop.
        if getattr(self, "_closed", True) or sys.is_finalizing():
            return
        self.closed = True
        if self.mode == "rb":
            self._fetch_range.abandon()
        elif self._writer is not None:
            start_in(self.fs.loop, self._writer.discard)
            warn(
                f"{self.path} was not closed, so it is not stored; use 'with'.",
                ResourceWarning,
                source=self,
            )

    def __reduce__(self) -> tuple[Any, ...]:
        if self.mode != "rb":
            raise TypeError("A file that is open for writing cannot be pickled.")
        cache = self.cache.name if self.cache else "none"
        return _reopened, (self.fs, self.path, self.blocksize, self.loc, cache, self.details)


def _reopened(
    fs: FileOwner,
    path: str,
    block_size: int,
    position: int,
    cache_type: str,
    details: dict[str, Any],
) -> CareflowFile:
    """Open a file that was pickled: the same version, at the same position."""
    file = CareflowFile(fs, path, "rb", block_size, cache_type=cache_type, details=details)
    file.seek(position)
    return file
