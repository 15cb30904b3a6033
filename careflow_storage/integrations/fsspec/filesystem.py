"""`CareflowFileSystem`: the file system of fsspec for the bucket of the settings."""

from __future__ import annotations

import asyncio
import os
from typing import Any, ClassVar

from careflow_storage.errors import InvalidInputError
from careflow_storage.integrations.fsspec.directories import Directories
from careflow_storage.integrations.fsspec.errors import os_errors
from careflow_storage.integrations.fsspec.files.async_files import AsyncReadFile, AsyncWriteFile
from careflow_storage.integrations.fsspec.files.buffered_file import (
    DEFAULT_BLOCK_BYTES,
    CareflowFile,
)
from careflow_storage.integrations.fsspec.files.layers import TextFile, compressed
from careflow_storage.integrations.fsspec.files.writer import ObjectWriter, write_mode
from careflow_storage.integrations.fsspec.methods.lookup import LookupMethods
from careflow_storage.integrations.fsspec.methods.reading import ReadMethods
from careflow_storage.integrations.fsspec.methods.writing import WriteMethods
from careflow_storage.integrations.fsspec.options import check_storage_options
from careflow_storage.integrations.fsspec.storages import LoopStorages

# The most small requests, and the most transfers in parts, that one call has in flight.
_REQUESTS_AT_ONCE = 100
_TRANSFERS_AT_ONCE = 16
_TEXT_OPTIONS = ("encoding", "errors", "newline")


class CareflowFileSystem(LookupMethods, ReadMethods, WriteMethods):
    """The bucket of the settings as a file system.

    ::

        fs = fsspec.filesystem("careflow")
        fs.ls("recordings/CA123")
        with fs.open("exports/calls.csv", "w") as file: ...

    A path is a key: ``careflow://recordings/CA123/1-a.webm``. The settings are read where the
    file system is used, when it is used first: from ``env_file``, or from ``BACKBLAZE_*`` and
    ``.env`` as `StorageSettings` does. So it can be pickled and sent to workers, and holds no
    secret. Instances with equal arguments are one object, as fsspec has it.

    Listings are cached until this file system changes something below them; pass
    ``refresh=True`` to `ls` and `info`, or call `invalidate_cache`, when others write. Costs
    are in docs/fsspec.md.

    Args:
        env_file: A file with ``BACKBLAZE_*`` lines, on each machine that uses the file system.
        bucket_name: Another bucket that the same application key may use.
        default_block_size: The bytes that files read ahead, and gather before they send them.
        default_cache_type: How files keep what they have read; a name of fsspec's caches.
        batch_size: The most files that a call for many handles at once. Default: 100 small
            requests, or 16 uploads or downloads of local files.
        asynchronous: Whether coroutines of the caller's event loop use it (``await fs._ls(...)``).
            Its storage is closed with that loop, or by `aclose`.
        loop: The loop of a thread of its own that runs the requests; default: fsspec's.
        options: ``use_listings_cache``, ``listings_expiry_time`` (seconds) and ``max_paths``, as
            fsspec describes them.

    Raises:
        InvalidInputError: A secret was passed. Secrets belong in the environment or in a file.
        OSError: A request failed: `FileNotFoundError`, `PermissionError`, `FileExistsError`,
            `TimeoutError`, `ConnectionError`, or with the errno EIO. The `StorageError` is its
            ``__cause__``.
    """

    blocksize: ClassVar[int] = DEFAULT_BLOCK_BYTES

    def __init__(
        self,
        env_file: str | os.PathLike[str] | None = None,
        *,
        bucket_name: str | None = None,
        default_block_size: int | None = None,
        default_cache_type: str = "readahead",
        batch_size: int | None = None,
        asynchronous: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
        **options: Any,
    ) -> None:
        check_storage_options(options)
        super().__init__(
            asynchronous=asynchronous,
            loop=loop,
            batch_size=batch_size or _REQUESTS_AT_ONCE,
            **options,
        )
        self._transfers_at_once = batch_size or _TRANSFERS_AT_ONCE
        self._default_block_size = default_block_size
        self._default_cache_type = default_cache_type
        self._storages = LoopStorages(
            None if env_file is None else os.fspath(env_file),
            {} if bucket_name is None else {"bucket_name": bucket_name},
        )
        self._directories = Directories(self.dircache, self._storage)

    def open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: dict[str, Any] | None = None,
        compression: str | None = None,
        **options: Any,
    ) -> Any:
        """Open a file: "rb", "wb", "xb" or "ab", or the same without "b" for text.

        Opening costs 1 HEAD for reading, unless the file was listed, and none for writing. See
        `CareflowFile`. An exception that leaves a ``with`` block stores nothing; that of
        ``fsspec.open`` does not pass it on, and stores what was written.

        Args:
            compression: A name of fsspec, such as "gzip", or "infer" for that of the ending.
            options: ``encoding``, ``errors`` and ``newline`` for text; ``cache_type`` for reading;
                `ObjectOptions` for writing, such as ``content_type`` and ``metadata``.
        """
        text = {name: options.pop(name) for name in _TEXT_OPTIONS if name in options}
        binary = mode if "b" in mode else mode.replace("t", "") + "b"
        file = super().open(path, binary, block_size, cache_options, **options)
        if compression is not None:
            file = compressed(file, path, mode, compression)
        return file if "b" in mode else TextFile(file, **text)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        cache_type: str | None = None,
        **options: Any,
    ) -> CareflowFile:
        if self.loop is None:
            raise InvalidInputError(
                "open() cannot be used with asynchronous=True.", hint="Await open_async()."
            )
        if mode != "rb":
            write_mode(mode)
        return CareflowFile(
            self,
            path,
            mode,
            block_size or self._default_block_size,
            autocommit=autocommit,
            cache_type=cache_type or self._default_cache_type,
            cache_options=cache_options,
            **options,
        )

    async def open_async(
        self, path: str, mode: str = "rb", **options: Any
    ) -> AsyncReadFile | AsyncWriteFile:
        """Open a file for coroutines: "rb" (1 HEAD), "wb", "xb" or "ab".

        Args:
            options: For writing: `ObjectOptions`, such as ``content_type`` and ``metadata``.
        """
        path = self._strip_protocol(path)
        storage = await self._storage()
        with os_errors(path, exclusive=mode == "xb"):
            if mode == "rb":
                return AsyncReadFile(path, await storage.open_file(path, **options))
            writer = await ObjectWriter.begin(storage, path, write_mode(mode), **options)
        return AsyncWriteFile(self, path, mode, writer)
