"""Reads one version of an object with several requests."""

from __future__ import annotations

from collections.abc import Mapping

from careflow_storage._http.parser import ResponseHead
from careflow_storage._s3.headers.encryption import key_headers
from careflow_storage._s3.headers.objects import ObjectHead, read_object_head
from careflow_storage._s3.retry import Failures
from careflow_storage._s3.transport import ResponseStream
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.download.conditions import ByteSpan
from careflow_storage.errors import (
    InvalidRangeError,
    PreconditionFailedError,
    ServerResponseError,
)
from careflow_storage.protection import CustomerKey


class PinnedObject:
    """Opens ranges of one version of an object.

    The first response pins the version, or the ETag if the bucket has no versions. Size, ETag,
    version and encoding of all later responses must match it: a server, cache or proxy may
    contradict itself.

    Attributes:
        head: The metadata in the first response; None before it.
        failures: How many requests have failed since the last byte arrived.
    """

    def __init__(
        self,
        context: TransferContext,
        key: str,
        *,
        version_id: str | None = None,
        head: ObjectHead | None = None,
        encryption: CustomerKey | None = None,
    ) -> None:
        self.key = key
        self.head = head
        self.failures = Failures()
        self._context = context
        self._version_id = version_id
        self._if_match: str | None = None
        self._key_headers = key_headers(encryption)
        if head is not None:
            self._version_id = version_id or head.file.version_id
            self._if_match = head.file.etag or None

    async def open(self, start: int, end: int | None) -> ResponseStream:
        """Open the range ``[start, end)``; repeat the request if the response is contradictory.

        Raises:
            PreconditionFailedError: The object was replaced since the first response.
            ServerResponseError: The response does not match the request.
        """
        try:
            return await self._get(start, end)
        except InvalidRangeError as error:
            if self.head is not None and start < self.head.file.size:
                raise self.violation("it refuses a range within the object") from error
            # An empty object has no satisfiable range.
            if start > 0 or end is None:
                raise
        return await self._get(0, None, empty=True)

    async def open_first(
        self, span: ByteSpan, *, if_match: str | None, unless: Mapping[str, str]
    ) -> ResponseStream:
        """Open a range with one request, under the conditions of a client.

        Where the response is a 304, ``head`` stays None.

        Raises:
            PreconditionFailedError: ``if_match`` is not the object's ETag.
            InvalidRangeError: The object has no such bytes.
        """

        def check(found: ResponseHead) -> None:
            self._compare(read_object_head(self.key, found.headers, self._context.requests.bucket))

        return await self._context.requests.get_object(
            self.key,
            start=span.start,
            end=span.end,
            suffix=span.suffix,
            if_match=if_match,
            unless=unless,
            version_id=self._version_id,
            headers=self._key_headers,
            check=check,
            failures=self.failures,
        )

    async def request_head(self) -> ObjectHead:
        """Request the metadata. 1 HEAD."""
        return await self._context.requests.head_object(
            self.key, version_id=self._version_id, headers=self._key_headers
        )

    async def open_head(self) -> None:
        """Pin the version with a HEAD, because an empty range cannot be requested."""
        if self.head is None:
            self._pin(await self.request_head())

    def violation(self, why: str, *, retryable: bool = True) -> ServerResponseError:
        """Return the error for a response that does not match the request."""
        return ServerResponseError(
            f"The server's response does not match the request: {why}.",
            operation="GetObject",
            bucket=self._context.requests.bucket,
            key=self.key,
            retryable=retryable,
        )

    async def _get(self, start: int, end: int | None, *, empty: bool = False) -> ResponseStream:
        def check(found: ResponseHead) -> None:
            head = read_object_head(self.key, found.headers, self._context.requests.bucket)
            if empty and head.file.size:
                raise self.violation("it refuses a range within the object")
            self._compare(head)

        return await self._context.requests.get_object(
            self.key,
            start=start,
            end=end,
            if_match=self._if_match,
            version_id=self._version_id,
            headers=self._key_headers,
            check=check,
            failures=self.failures,
        )

    def _pin(self, head: ObjectHead) -> None:
        self._check_version(head)
        self.head = head
        if self._version_id is None:
            self._version_id = head.file.version_id
        # Without versions only the ETag identifies the content.
        if self._version_id is None:
            self._if_match = head.file.etag

    def _compare(self, now: ObjectHead) -> None:
        first = self.head
        if first is None:
            self._pin(now)
            return
        if now.file.etag != first.file.etag:
            raise PreconditionFailedError(
                "The object was replaced while it was read.",
                operation="GetObject",
                bucket=self._context.requests.bucket,
                key=self.key,
            )
        self._check_version(now)
        # With Live Read, B2 does not send the size before the upload is complete.
        unknown = now.headers.get("content-range", "").endswith("/*")
        if not unknown and now.file.size != first.file.size:
            raise self.violation(
                f"it declares {now.file.size} bytes, but the object has {first.file.size}"
            )
        if _encoding(now) != _encoding(first):
            raise self.violation(f"its Content-Encoding is {_encoding(now)!r:.40}")

    def _check_version(self, now: ObjectHead) -> None:
        found = now.headers.get("x-amz-version-id")
        if self._version_id is not None and found not in (None, self._version_id):
            raise self.violation("it belongs to another version")


def _encoding(head: ObjectHead) -> str:
    """Return the content encoding: a proxy that changes it changes the bytes."""
    encoding = head.headers.get("content-encoding", "").strip().lower()
    # Some servers return the "aws-chunked" of a signed upload in chunks.
    return "" if encoding in ("identity", "aws-chunked") else encoding
