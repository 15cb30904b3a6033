"""The listing of all versions, which is made without a request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from careflow_storage._pages import Pages
from careflow_storage._s3.deadline import Deadline
from careflow_storage._s3.requests.key_range import ListedRange
from careflow_storage._s3.requests.listing import checked_prefix
from careflow_storage._s3.requests.objects import S3Requests
from careflow_storage._s3.requests.paging import checked_limit
from careflow_storage._s3.requests.versions import version_pages
from careflow_storage.models import FileVersion


class VersionListing(Pages[FileVersion]):
    """All versions and delete markers below a prefix: awaited, iterated, or page by page.

    In the order of their keys: UTF-8 byte order on B2 and AWS S3, another one on SeaweedFS, the
    embedded server. Within a key the newest comes first. Costs one request per 1000 versions
    (class C on B2), sent when they are needed. Every iteration begins a new listing.

    A range of keys has all versions of each of its keys. As for
    `careflow_storage.FileListing`, it needs a server that lists in UTF-8 byte order.
    """

    def __init__(
        self,
        requests: Callable[[], S3Requests],
        prefix: str,
        max_versions: int | None,
        timeout: float | None = None,
        *,
        key_range: ListedRange | None = None,
    ) -> None:
        self._requests = requests
        self._prefix = checked_prefix(prefix)
        self._max_versions = checked_limit(max_versions, "max_versions", "versions")
        self._range = key_range
        self._timeout = Deadline(timeout).timeout

    async def pages(self) -> AsyncIterator[list[FileVersion]]:
        """Yield lists of up to 1000 versions; none for an empty listing."""
        requests = self._requests()
        pages = version_pages(
            requests, self._prefix, limit=self._max_versions, key_range=self._range
        )
        with requests.deadline("list_file_versions", self._timeout) as deadline:
            async with aclosing(pages):
                while (page := await deadline.wait(anext(pages, None))) is not None:
                    yield page
