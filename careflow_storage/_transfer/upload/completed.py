"""Finds the object of a multipart upload whose completion the server did not confirm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing

from careflow_storage._s3.headers.encryption import key_headers_of
from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage._s3.requests.objects import S3Requests
from careflow_storage._s3.requests.versions import versions_of_key
from careflow_storage.errors import NoSuchKeyError, NotSupportedError

# If a key has more versions, the one that was just completed is among the newest.
_VERSIONS_CHECKED = 100


async def find_completed(
    requests: S3Requests,
    key: str,
    headers: Mapping[str, str],
    etag: str | None,
    is_ours: Callable[[ObjectHead], bool],
) -> ObjectHead | None:
    """Return the version of ``key`` that ``is_ours`` accepts; None if there is none.

    1 HEAD for the newest version. If that one is not accepted, 1 request to list the versions,
    and 1 HEAD for each that has ``etag`` (for each at all if ``etag`` is None). ``headers`` are
    the object's, with a customer's key if it has one.
    """
    key_headers = key_headers_of(headers)
    try:
        newest = await requests.head_object(key, headers=key_headers)
        if is_ours(newest):
            return newest
        if newest.file.version_id is None:
            return None
    except NoSuchKeyError:
        pass  # A delete marker may hide it, so the versions decide.
    # Another writer may have replaced or hidden the object since.
    try:
        for version in await _versions(requests, key, etag):
            head = await requests.head_object(key, version_id=version, headers=key_headers)
            if is_ours(head):
                return head
    except NotSupportedError:
        pass  # A server without versions has no older one.
    return None


async def _versions(requests: S3Requests, key: str, etag: str | None) -> list[str]:
    """Return the IDs of the newest versions, only of those with ``etag`` unless it is None."""
    found: list[str] = []
    async with aclosing(versions_of_key(requests, key, limit=_VERSIONS_CHECKED)) as pages:
        async for page in pages:
            found += [
                version.version_id
                for version in page
                if version.version_id is not None
                and not version.delete_marker
                and etag in (None, version.etag)
            ]
    return found
