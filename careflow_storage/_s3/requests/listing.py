"""`FileListing` and `FolderListing`, and the pages of ListObjectsV2 that they show."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import aclosing
from typing import Any

from careflow_storage._pages import Pages
from careflow_storage._s3.deadline import Deadline
from careflow_storage._s3.requests.key_range import ListedRange, OrderedPages
from careflow_storage._s3.requests.objects import S3Requests
from careflow_storage._s3.requests.paging import LoopDetector, checked_limit
from careflow_storage._s3.xml.documents import ListPage
from careflow_storage.errors import InvalidInputError, ServerResponseError
from careflow_storage.models import FileInfo, FolderContents

PAGE_KEYS = 1000


class FileListing(Pages[FileInfo]):
    """The files below a prefix, in the server's order.

    B2 and AWS S3 list keys in UTF-8 byte order. SeaweedFS, the embedded server, does not: a page
    of its listing has ``é`` before ``z``, and the pages follow its folders, where ``a/b`` comes
    before ``a-b``.

    ::

        files = await storage.list_files("recordings/CA123/")  # all of them, in a list
        async for file in storage.list_files():  # one page in memory
            ...
        async for page in storage.list_files().pages():  # lists of up to 1000
            ...

    Costs one request per 1000 keys (class C on B2), sent when they are needed. Every iteration
    begins a new listing.

    A range, ``(start_after, until]``, is read from its beginning and to its end only. It needs a
    server that lists in UTF-8 byte order: any page in another order raises `ServerResponseError`.
    Not on a page is what SeaweedFS leaves out at the ends of a range: after ``a-b`` it lists
    nothing of the folder ``a/``, and after a key ``a`` neither. Where a folder's name begins the
    name of what is beside it, a range of its keys may lack some.
    """

    def __init__(
        self,
        requests: Callable[[], S3Requests],
        prefix: str,
        max_keys: int | None,
        timeout: float | None = None,
        *,
        key_range: ListedRange | None = None,
    ) -> None:
        self._requests = requests
        self._prefix = checked_prefix(prefix)
        self._max_keys = checked_limit(max_keys, "max_keys", "files")
        self._range = key_range
        self._timeout = Deadline(timeout).timeout

    async def pages(self) -> AsyncIterator[list[FileInfo]]:
        """Yield lists of up to 1000 files; none for an empty listing."""
        requests = self._requests()
        found = _pages(requests, self._prefix, max_keys=self._max_keys, key_range=self._range)
        with requests.deadline("list_files", self._timeout) as deadline:
            async with aclosing(found) as pages:
                while (page := await deadline.wait(anext(pages, None))) is not None:
                    if page.files:
                        yield page.files


class FolderListing:
    """One folder: the files directly in it, and the folders below it.

    ::

        folder = await storage.list_folder("recordings/")  # all of it
        folder.common_prefixes  # ["recordings/CA123/", "recordings/CA124/", ...]
        async for page in storage.list_folder("recordings/").pages():  # one page in memory
            ...

    S3 has no folders, only keys. All keys with the same beginning, up to the next delimiter,
    count as one entry: the *common prefix*. Costs one request per 1000 files and common prefixes
    (class C on B2), sent when they are needed, however many files the folders hold. Every
    iteration begins a new listing.
    """

    def __init__(
        self,
        requests: Callable[[], S3Requests],
        prefix: str,
        delimiter: str = "/",
        timeout: float | None = None,
    ) -> None:
        self._requests = requests
        self._prefix = checked_prefix(prefix)
        self._delimiter = checked_prefix(delimiter, "delimiter")
        if not delimiter:
            raise InvalidInputError(
                "delimiter must not be empty.", hint="list_files lists without one."
            )
        self._timeout = Deadline(timeout).timeout

    def __await__(self) -> Generator[Any, None, FolderContents]:
        return self._all().__await__()

    async def pages(self) -> AsyncIterator[FolderContents]:
        """Yield up to 1000 files and common prefixes at a time; none for an empty folder."""
        requests = self._requests()
        all_pages = _pages(requests, self._prefix, delimiter=self._delimiter)
        last = ""
        with requests.deadline("list_folder", self._timeout) as deadline:
            async with aclosing(all_pages) as pages:
                while (page := await deadline.wait(anext(pages, None))) is not None:
                    # Some servers begin a page with the common prefix that ended the one before.
                    found = [each for each in page.common_prefixes if each != last]
                    last = found[-1] if found else last
                    if found or page.files:
                        yield FolderContents(common_prefixes=found, files=page.files)

    async def _all(self) -> FolderContents:
        common_prefixes: list[str] = []
        files: list[FileInfo] = []
        async for page in self.pages():
            common_prefixes += page.common_prefixes
            files += page.files
        return FolderContents(common_prefixes=common_prefixes, files=files)


async def _pages(
    requests: S3Requests,
    prefix: str,
    *,
    delimiter: str | None = None,
    max_keys: int | None = None,
    key_range: ListedRange | None = None,
) -> AsyncGenerator[ListPage]:
    """Request one page after another, and yield each that is correct."""
    left, token, start_after, reader = max_keys, None, None, None
    if key_range is not None:
        key_range = key_range.within(prefix)
        if key_range is None:
            return
        start_after = key_range.after
        reader = OrderedPages(key_range, "ListObjectsV2")
    loops = LoopDetector("ListObjectsV2", requests.bucket)
    while True:
        wanted = PAGE_KEYS if left is None else min(PAGE_KEYS, left)
        page = await requests.list_objects(
            prefix, delimiter=delimiter, max_keys=wanted, token=token, start_after=start_after
        )
        _check_page(page, prefix, delimiter)
        last = page.files[-1].key if page.files else None
        folder = page.common_prefixes[-1] if page.common_prefixes else None
        if reader is not None:
            page.files[:] = page.files[reader.take([file.key for file in page.files])]
        if left is not None:
            left -= len(page.files)
            del page.files[wanted:]
        yield page
        if page.next_token is None or (left is not None and left <= 0):
            return
        if reader is not None and reader.ended:
            return
        token, start_after = page.next_token, None
        loops.check(token, last, folder)


def _check_page(page: ListPage, prefix: str, delimiter: str | None) -> None:
    # A caller that deletes what is listed must not get keys outside the prefix.
    for file in page.files:
        if not file.key.startswith(prefix):
            raise _malformed("it lists keys that do not begin with the prefix", file.key)
    if delimiter is None:
        return
    for folder in page.common_prefixes:
        end = folder.find(delimiter, len(prefix)) + len(delimiter)
        if not folder.startswith(prefix) or end != len(folder):
            raise _malformed(
                "it lists common prefixes that do not begin with the prefix, or do not end at the "
                "next delimiter",
                folder,
            )


def _malformed(why: str, key: str | None = None) -> ServerResponseError:
    return ServerResponseError(f"Malformed response: {why}.", operation="ListObjectsV2", key=key)


def checked_prefix(prefix: str, name: str = "prefix") -> str:
    """Return a prefix or delimiter for a listing; raise `InvalidInputError` for another."""
    if not isinstance(prefix, str):
        raise InvalidInputError(f"{name} must be a str, not {type(prefix).__name__}.")
    try:
        size = len(prefix.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{name} must be valid Unicode.") from error
    if size > 1024 or any(ord(char) < 0x20 or ord(char) == 0x7F for char in prefix):
        raise InvalidInputError(
            f"{name} must be at most 1024 bytes of UTF-8 without control characters."
        )
    return prefix
