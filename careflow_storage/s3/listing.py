"""Listings without an end at 1000: awaited, iterated, or page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterable
from typing import Any

from careflow_storage.errors import InvalidInputError, ServerResponseError, StorageError
from careflow_storage.models import FileInfo
from careflow_storage.s3.deadline import Deadline
from careflow_storage.s3.requests import S3Requests

PAGE_KEYS = 1000


class FileListing:
    """The files below a prefix, in UTF-8 byte order of their keys.

    ::

        files = await storage.list_files("recordings/CA123/")  # all of them, in a list
        async for file in storage.list_files():  # one page in memory
            ...
        async for page in storage.list_files().pages():  # lists of up to 1000
            ...

    Costs one request per 1000 keys (class C on B2), sent as they are needed. Every iteration
    begins a new listing.
    """

    def __init__(
        self,
        requests: Callable[[], S3Requests],
        prefix: str,
        max_keys: int | None,
        timeout: float | None = None,
    ) -> None:
        self._requests = requests
        self._prefix = checked_prefix(prefix)
        if max_keys is not None and (type(max_keys) is not int or max_keys < 1):
            raise InvalidInputError(
                f"max_keys must be 1 or more, not {max_keys!r}.", hint="None lists all files."
            )
        self._max_keys = max_keys
        self._timeout = Deadline(timeout).timeout

    def __await__(self) -> Generator[Any, None, list[FileInfo]]:
        return self._all().__await__()

    async def __aiter__(self) -> AsyncIterator[FileInfo]:
        async for page in self.pages():
            for file in page:
                yield file

    async def pages(self) -> AsyncIterator[list[FileInfo]]:
        """Yield lists of up to 1000 files; none for an empty listing."""
        requests = self._requests()
        left, token = self._max_keys, None
        deadline = Deadline(self._timeout, operation="list_files", bucket=requests.bucket)
        while True:
            wanted = PAGE_KEYS if left is None else min(PAGE_KEYS, left)
            try:
                page = await deadline.wait(
                    requests.list_objects(self._prefix, max_keys=wanted, token=token)
                )
            except StorageError as error:
                # What cannot be parsed does not know where it came from.
                error.operation = error.operation or "list_files"
                error.bucket = error.bucket or requests.bucket
                raise
            self._check_prefix(page.files)
            if page.files:
                yield page.files[:wanted]
            if left is not None:
                left -= len(page.files)
            if page.next_token is None or (left is not None and left <= 0):
                return
            if page.next_token == token:
                raise ServerResponseError(
                    "The listing does not go on: the server gives the same page again.",
                    operation="ListObjectsV2",
                )
            token = page.next_token

    def _check_prefix(self, files: Iterable[FileInfo]) -> None:
        # Who deletes all that is listed under a prefix must not be given anything else.
        for file in files:
            if not file.key.startswith(self._prefix):
                raise ServerResponseError(
                    "The listing has keys that do not begin with the prefix.",
                    operation="ListObjectsV2",
                    key=file.key,
                )

    async def _all(self) -> list[FileInfo]:
        return [file async for page in self.pages() for file in page]


def checked_prefix(prefix: str) -> str:
    """Return a prefix that can be asked for; raise `InvalidInputError` for another."""
    if not isinstance(prefix, str):
        raise InvalidInputError(f"prefix must be a str, not {type(prefix).__name__}.")
    try:
        size = len(prefix.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise InvalidInputError("prefix must be valid Unicode.") from error
    if size > 1024 or any(ord(char) < 0x20 or ord(char) == 0x7F for char in prefix):
        raise InvalidInputError(
            "prefix must be at most 1024 bytes of UTF-8 without control characters."
        )
    return prefix
