"""Text and compression around a file: both end with the file, in error too."""

from __future__ import annotations

import io
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from careflow_storage.errors import MissingExtraError

try:
    from fsspec.compression import compr
    from fsspec.core import get_compression
except ImportError as error:
    raise MissingExtraError("fsspec") from error

from careflow_storage.integrations.fsspec.files.buffered_file import CareflowFile

if TYPE_CHECKING:
    from typing_extensions import Buffer


def compressed(file: CareflowFile, path: str, mode: str, compression: str) -> Any:
    """Return a file that compresses or decompresses.

    Args:
        compression: A name of fsspec, such as "gzip", or "infer" for that of the path's ending.
    """
    name = get_compression(path, compression)
    if name is None:
        return file
    if mode[0] == "r":
        return compr[name](file, mode="r")
    return CompressedWriter(file, name)


class TextFile(io.TextIOWrapper):
    """A text file. An exception that leaves its block stores nothing."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None and self.writable():
            cast("Any", self.buffer).discard()
        self.close()


class CompressedWriter(io.BufferedIOBase):
    """Writes compressed bytes to a file. The file is stored when this is closed."""

    def __init__(self, file: CareflowFile, compression: str) -> None:
        self._sink = _Sink(file)
        # Compressors write their last bytes when they are closed, and leave the file open.
        self._compressor = compr[compression](self._sink, mode="w")
        self._file = file
        self._ended = False

    def writable(self) -> bool:
        """Whether it takes bytes: until it is closed."""
        return not self.closed

    def write(self, data: Buffer, /) -> int:
        """Append ``data``; return its length in bytes."""
        return int(self._compressor.write(data))

    def flush(self) -> None:
        """Hand over what is compressed so far."""
        # The base class calls it in the middle of `close`.
        if not self._ended:
            self._compressor.flush()

    def close(self) -> None:
        """Compress the rest, and store the file."""
        if self._ended:
            return
        self._ended = True
        try:
            self._compressor.close()
        except BaseException:
            self.discard()
            raise
        super().close()
        self._file.close()

    def discard(self) -> None:
        """Store nothing."""
        self._ended = True
        self._sink.file = None
        self._file.discard()
        super().close()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            self.discard()
        self.close()

    def __del__(self) -> None:
        # That of the base class would close it. The file warns that it is not stored.
        self._sink.file = None


class _Sink(io.RawIOBase):
    """What a compressor writes to: the file, until that is discarded."""

    def __init__(self, file: CareflowFile) -> None:
        self.file: CareflowFile | None = file

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        return memoryview(data).nbytes if self.file is None else self.file.write(data)
