"""All versions below a prefix, or of one key, page by page."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from careflow_storage._s3.requests.key_range import ListedRange, OrderedPages
from careflow_storage._s3.requests.objects import S3Requests
from careflow_storage._s3.requests.paging import LoopDetector
from careflow_storage.errors import InvalidInputError, ServerResponseError
from careflow_storage.models import FileVersion

PAGE_VERSIONS = 1000
# B2's have about 100 characters.
_LONGEST_VERSION_ID = 1024


async def version_pages(
    requests: S3Requests,
    prefix: str,
    *,
    limit: int | None = None,
    key_range: ListedRange | None = None,
) -> AsyncGenerator[list[FileVersion]]:
    """Yield the versions and delete markers of all keys with this prefix, in lists of up to 1000.

    By key in UTF-8 byte order, and within a key the newest first. One page is in memory at a
    time. 1 request per page (class C on B2: "S3 List Object Versions"), sent as it is asked for.

    Args:
        limit: The most to list; None for all.
        key_range: Lists all versions of the keys in this range.

    Raises:
        ServerResponseError: A page is malformed, leads in a circle, or has other keys than
            were asked for; or a range is asked for, and the keys are not in order.
    """
    left = limit
    position: tuple[str, str | None] | None = None
    reader: OrderedPages | None = None
    if key_range is not None:
        key_range = key_range.within(prefix)
        if key_range is None:
            return
        # Without a version, it stands for all versions of this key.
        position = None if key_range.after is None else (key_range.after, None)
        reader = OrderedPages(key_range, "ListObjectVersions", inclusive=True, repeated=True)
    loops = LoopDetector("ListObjectVersions", requests.bucket)
    while left is None or left > 0:
        wanted = PAGE_VERSIONS if left is None else min(PAGE_VERSIONS, left)
        page = await requests.list_versions(prefix, max_keys=wanted, after=position)
        # A caller that erases what is listed must not get keys outside the prefix.
        for version in page.versions:
            if not version.key.startswith(prefix):
                raise _malformed("it lists keys that do not begin with the prefix", version.key)
        found = page.versions
        if reader is not None:
            found = found[reader.take([version.key for version in found])]
        found = found[:wanted]
        last = (page.versions[-1].key, page.versions[-1].version_id) if page.versions else None
        if found:
            yield found
        if left is not None:
            left -= len(found)
        if page.next_position is None or (reader is not None and reader.ended):
            return
        position = page.next_position
        loops.check(position, last)


async def versions_of_key(
    requests: S3Requests, key: str, *, limit: int | None = None
) -> AsyncGenerator[list[FileVersion]]:
    """Yield the versions and delete markers of exactly this key, the newest first, in pages.

    Keys come in order and the key itself is the first that begins with it: the listing ends at
    the first other one. 1 request per 1000 versions.
    """
    async with aclosing(version_pages(requests, key, limit=limit)) as pages:
        async for page in pages:
            found = [version for version in page if version.key == key]
            if found:
                yield found
            if page[-1].key != key:
                return


def checked_version_id(version_id: str) -> str:
    """Return a version ID that can be asked for; raise `InvalidInputError` for another.

    An empty one above all: to S3 it is none, and then a file is hidden instead of erased.
    """
    if not isinstance(version_id, str):
        raise InvalidInputError(f"version_id must be a str, not {type(version_id).__name__}.")
    good = version_id.isascii() and version_id.isprintable() and version_id.strip() == version_id
    if not version_id or not good or len(version_id) > _LONGEST_VERSION_ID:
        raise InvalidInputError(
            f"version_id must be 1 to {_LONGEST_VERSION_ID} printable ASCII characters."
        )
    return version_id


def _malformed(why: str, key: str | None) -> ServerResponseError:
    return ServerResponseError(
        f"Malformed response: {why}.", operation="ListObjectVersions", key=key
    )
