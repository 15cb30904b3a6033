"""The listing of all versions, which is made without waiting for anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from contextlib import aclosing
from typing import Any

from careflow_storage._s3.deadline import Deadline
from careflow_storage._s3.listing import checked_prefix
from careflow_storage._s3.objects import S3Requests
from careflow_storage._s3.versions import version_pages
from careflow_storage.errors import InvalidInputError
from careflow_storage.models import FileVersion


class VersionListing:
    """All versions and delete markers below a prefix: awaited, iterated, or page by page.

    By key, in UTF-8 byte order on B2 and AWS S3 (SeaweedFS, the embedded server, has an order of
    its own), and within a key the newest first. Costs one request per 1000
    (class C on B2), sent as they are needed. Every iteration begins a new listing.
    """

    def __init__(
        self,
        requests: Callable[[], S3Requests],
        prefix: str,
        max_versions: int | None,
        timeout: float | None = None,
    ) -> None:
        self._requests = requests
        self._prefix = checked_prefix(prefix)
        if max_versions is not None and (type(max_versions) is not int or max_versions < 1):
            raise InvalidInputError(
                f"max_versions must be 1 or more, not {max_versions!r}.",
                hint="None lists all versions.",
            )
        self._max_versions = max_versions
        self._timeout = Deadline(timeout).timeout

    def __await__(self) -> Generator[Any, None, list[FileVersion]]:
        return self._all().__await__()

    async def __aiter__(self) -> AsyncIterator[FileVersion]:
        async for page in self.pages():
            for version in page:
                yield version

    async def pages(self) -> AsyncIterator[list[FileVersion]]:
        """Yield lists of up to 1000 versions; none for an empty listing."""
        requests = self._requests()
        deadline = Deadline(
            self._timeout,
            requests.in_flight,
            method="list_file_versions",
            bucket=requests.bucket,
        )
        pages = version_pages(requests, self._prefix, limit=self._max_versions)
        async with aclosing(pages):
            while True:
                page = await deadline.wait(anext(pages, None))
                if page is None:
                    return
                yield page

    async def _all(self) -> list[FileVersion]:
        return [version async for page in self.pages() for version in page]
