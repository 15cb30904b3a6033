"""The hot calls: put, get, head, delete, upload part, list. One request, one typed response."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from careflow_storage._http.bodies import Body
from careflow_storage._http.parser import ResponseHead
from careflow_storage._in_flight import InFlight
from careflow_storage._s3.deadline import Deadline
from careflow_storage._s3.headers.errors import (
    explain_refused_read,
    explain_refused_write,
    needs_content_md5,
    needs_customer_key,
)
from careflow_storage._s3.headers.objects import (
    ObjectHead,
    StoreResult,
    read_object_head,
    version_id_of,
)
from careflow_storage._s3.requests.body_md5 import InThread, with_content_md5
from careflow_storage._s3.responses.check import MISSING_OR_DENIED_HINT, is_marked, is_web_page
from careflow_storage._s3.responses.lengths import (
    check_range,
    check_suffix,
    check_whole,
    first_part_size,
    is_range,
)
from careflow_storage._s3.responses.malformed import malformed
from careflow_storage._s3.retry import Failures
from careflow_storage._s3.signing.signer import UNSIGNED_PAYLOAD, canonical_query
from careflow_storage._s3.transport import Request, Response, ResponseStream, Transport
from careflow_storage._s3.xml import documents
from careflow_storage._s3.xml.versions import Position, VersionPage, parse_versions
from careflow_storage.errors import (
    AccessDeniedError,
    CapExceededError,
    ConnectionFailedError,
    InvalidRangeError,
    NoSuchKeyError,
    NotSupportedError,
    ServerResponseError,
    StorageError,
)

_BYPASS = {"x-amz-bypass-governance-retention": "true"}


class S3Requests:
    """The data plane of one bucket."""

    def __init__(self, transport: Transport, in_thread: InThread) -> None:
        self.bucket: str = transport.session.bucket
        self.in_flight: InFlight = transport.session.in_flight
        self._transport = transport
        self._in_thread = in_thread
        self._bucket_was_seen = False
        self._needs_md5 = False

    def deadline(self, method: str, seconds: float | None) -> Deadline:
        """Return the deadline of a listing, whose errors name ``method``."""
        observer = self._transport.session.observer
        return Deadline(seconds, self.in_flight, observer, method=method, bucket=self.bucket)

    def put_object(
        self,
        key: str,
        body: Body | bytes,
        headers: dict[str, str],
        *,
        payload_hash: str = UNSIGNED_PAYLOAD,
        on_sent: Callable[[int], None] | None = None,
    ) -> Coroutine[Any, Any, StoreResult]:
        """Store one object with one request; ``headers`` are signed."""
        return self._store(
            Request("PutObject", "PUT", key, "", headers, body, payload_hash, on_sent)
        )

    def upload_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        body: Body | bytes,
        headers: dict[str, str],
        *,
        payload_hash: str = UNSIGNED_PAYLOAD,
        on_sent: Callable[[int], None] | None = None,
    ) -> Coroutine[Any, Any, StoreResult]:
        """Store one part of a multipart upload; the same number again replaces it."""
        query = canonical_query({"partNumber": str(number), "uploadId": upload_id})
        return self._store(
            Request("UploadPart", "PUT", key, query, headers, body, payload_hash, on_sent)
        )

    async def _store(self, request: Request) -> StoreResult:
        def parse(response: Response) -> StoreResult:
            etag = response.headers.get("etag")
            if not etag:
                raise malformed(
                    "it has no ETag",
                    operation=request.operation,
                    bucket=self.bucket,
                    key=request.key,
                )
            if response.body and not is_marked(response.headers):
                # Web servers give their pages ETags, too.
                raise malformed(
                    "it has a body",
                    operation=request.operation,
                    bucket=self.bucket,
                    key=request.key,
                )
            return StoreResult(
                documents.unquote_etag(etag), version_id_of(response.headers), response.headers
            )

        if self._needs_md5 and "content-md5" not in request.headers:
            request = await with_content_md5(request, self._in_thread)
        try:
            stored = await self._transport.send(request, parse)
        except StorageError as error:
            if not needs_content_md5(error, request.headers):
                explain_refused_write(error, request.headers)
                raise
        else:
            self._bucket_was_seen = True
            return stored
        # The bucket locks all that comes. It is remembered: asking costs each body twice.
        self._needs_md5 = True
        return await self._store(request)

    async def head_object(
        self,
        key: str,
        *,
        version_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ObjectHead:
        """Ask for an object's metadata; ``headers`` hold the customer's key, if it has one.

        A HEAD response has no body with the reason of a failure. One GET of a single byte
        finds it out, except for a 404 once the bucket is known to exist.
        """
        try:
            head = await self._head_or_reason(key, _version_query(version_id), headers)
        except StorageError as error:
            explain_refused_read(error, headers)
            raise
        if is_web_page(head.headers):
            await self._require_s3("HeadObject", key)
        self._bucket_was_seen = True
        return head

    async def _head_or_reason(
        self, key: str, query: str, headers: Mapping[str, str] | None
    ) -> ObjectHead:
        # Together they are one request, and sent as often as one.
        failures = Failures()
        try:
            head = await self._head(key, query, headers, failures)
        except StorageError as error:
            # Refused by a proxy on the way, the GET would be, too.
            of_proxy = isinstance(error, ConnectionFailedError)
            if error.code is not None or error.status is None or error.retryable or of_proxy:
                raise
            if isinstance(error, NoSuchKeyError) and self._bucket_was_seen:
                raise
            head = await self._head_by_get(key, query, headers, failures)
        return head

    async def _head(
        self, key: str, query: str, headers: Mapping[str, str] | None, failures: Failures
    ) -> ObjectHead:
        return await self._transport.send(
            Request("HeadObject", "HEAD", key, query, dict(headers or {})),
            lambda response: self._described(key, response),
            failures,
        )

    async def _head_by_get(
        self, key: str, query: str, headers: Mapping[str, str] | None, failures: Failures
    ) -> ObjectHead:
        """Find out the reason of an error, or the metadata that the HEAD lacks."""
        try:
            stream = await self._transport.open(
                Request("HeadObject", "GET", key, query, {**(headers or {}), "range": "bytes=0-0"}),
                failures=failures,
            )
        except NoSuchKeyError:
            self._bucket_was_seen = True
            raise
        except InvalidRangeError:
            # An empty object has no byte to ask for, but now it can be read.
            return await self._head(key, query, headers, failures)
        # Whatever it was has passed: B2's RequestTimeout is a 400, and in a HEAD it has no name.
        await stream.aclose()
        return self._described(key, stream, ranged=is_range(stream.status, stream.headers))

    def _described(
        self, key: str, response: Response | ResponseStream, *, ranged: bool = False
    ) -> ObjectHead:
        try:
            if ranged:
                check_range(response.status, response.headers, 0, 1)
            else:
                check_whole(response.status, response.headers)
        except ValueError as error:
            raise malformed(
                str(error), operation="HeadObject", bucket=self.bucket, key=key
            ) from error
        return read_object_head(key, response.headers, self.bucket)

    async def first_part_size(self, key: str, version_id: str | None, etag: str) -> int | None:
        """Return the size of the first part of an object in parts; None if the server hides it.

        ``etag`` is that of the object that is meant. 1 HEAD.
        """
        params = {"partNumber": "1"} | ({} if version_id is None else {"versionId": version_id})
        try:
            return await self._transport.send(
                Request("HeadObject", "HEAD", key, canonical_query(params), expects=206),
                lambda response: first_part_size(response.headers, etag),
            )
        except StorageError:
            # The parameter is rarely used. Whatever the reason, the size is not known.
            return None

    async def object_exists(self, key: str, headers: Mapping[str, str] | None = None) -> bool:
        """Return whether an object exists; raise `AccessDeniedError` if that is unknown.

        B2 responds with 403 for a missing object when the application key lacks ``listBuckets``.
        Then a listing is requested. ``headers`` hold the customer's key, if it has one; a server
        that demands a key shows that the object exists.
        """
        try:
            head = await self._head_or_reason(key, "", headers)
            if is_web_page(head.headers):
                await self._require_s3("HeadObject", key)
        except NoSuchKeyError:
            return False
        except CapExceededError:
            raise
        except AccessDeniedError as denied:
            try:
                page = await self.list_objects(key, max_keys=1)
            except AccessDeniedError:
                denied.hint = MISSING_OR_DENIED_HINT
                raise denied from None
            return any(file.key == key for file in page.files)
        except StorageError as error:
            if not needs_customer_key(error):
                raise
        self._bucket_was_seen = True
        return True

    async def get_object(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        suffix: int | None = None,
        if_match: str | None = None,
        unless: Mapping[str, str] | None = None,
        version_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        check: Callable[[ResponseHead], None] | None = None,
        failures: Failures | None = None,
    ) -> ResponseStream:
        """Open an object's bytes ``[start, end)``; the caller closes the stream.

        ``headers`` hold the customer's key, if it has one. ``check`` refuses a head that does
        not fit, which is asked for again; ``failures`` are those before. With ``suffix`` the last
        ``suffix`` bytes are requested; a server that ignores this returns all of them.
        ``unless`` is If-None-Match or If-Modified-Since: the response may be a 304, which
        ``check`` does not see.
        """
        asked = {**(headers or {}), **(unless or {})}
        ranged = start > 0 or end is not None
        if suffix is not None:
            asked["range"] = f"bytes=-{suffix}"
        elif ranged:
            asked["range"] = f"bytes={start}-{'' if end is None else end - 1}"
        if if_match is not None:
            asked["if-match"] = f'"{if_match}"'
        request = Request("GetObject", "GET", key, _version_query(version_id), asked)
        request.may_be_unmodified = bool(unless)
        settled = False

        def believed(head: ResponseHead) -> None:
            if head.status == 304 or (is_web_page(head.headers) and not settled):
                return
            try:
                if suffix is not None and is_range(head.status, head.headers):
                    check_suffix(head.headers, suffix)
                elif ranged:
                    check_range(head.status, head.headers, start, end)
                elif head.status != 200 or "content-range" in head.headers:
                    check_whole(head.status, head.headers)
            except ValueError as error:
                raise malformed(
                    str(error), operation="GetObject", bucket=self.bucket, key=key
                ) from error
            if check is not None:
                check(head)

        stream = await self._open(request, believed, failures)
        if is_web_page(stream.headers):
            # It holds a slot, and there may be only one.
            await stream.aclose()
            await self._require_s3("GetObject", key)
            settled = True
            stream = await self._open(request, believed, failures)
        self._bucket_was_seen = True
        return stream

    async def _open(
        self,
        request: Request,
        check: Callable[[ResponseHead], None],
        failures: Failures | None,
    ) -> ResponseStream:
        try:
            return await self._transport.open(request, check, failures)
        except StorageError as error:
            explain_refused_read(error, request.headers)
            raise

    async def _require_s3(self, operation: str, key: str) -> None:
        """Request a listing, which web servers and portals cannot make up; raise if it is none.

        Such servers give every page, even the one that stands for all that they do not know, what
        an object has: a length, an ETag and a date. Errors name the ``operation`` that got it.
        """
        try:
            await self.list_objects(key, max_keys=1)
        except (AccessDeniedError, NotSupportedError):
            # A server of S3 that denies the listing has shown what it is.
            return
        except StorageError as error:
            error.operation, error.key = operation, key
            if isinstance(error, ServerResponseError):
                error.message = "Malformed response: it is a web page, not a file of an S3 server."
            raise

    async def delete_object(
        self, key: str, *, version_id: str | None = None, bypass_governance: bool = False
    ) -> tuple[str | None, bool]:
        """Delete an object or a version; return its version ID and whether it is a marker."""
        return await self._transport.send(
            Request(
                "DeleteObject",
                "DELETE",
                key,
                _version_query(version_id),
                dict(_BYPASS) if bypass_governance else {},
                expects=204,
            ),
            lambda response: (
                version_id_of(response.headers),
                response.headers.get("x-amz-delete-marker") == "true",
            ),
        )

    async def delete_objects(
        self, targets: Iterable[tuple[str, str | None]], *, bypass_governance: bool = False
    ) -> documents.DeleteDocument:
        """Delete up to 1000 keys, or versions, with one request."""
        body = documents.build_delete_request(targets)
        # Every S3 server since 2006 takes Content-MD5 here; newer checksums not all do.
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        return await self._transport.send(
            Request(
                "DeleteObjects",
                "POST",
                None,
                "delete=",
                {
                    "content-md5": base64.b64encode(digest).decode(),
                    "content-type": "application/xml",
                    **(_BYPASS if bypass_governance else {}),
                },
                body,
                hashlib.sha256(body).hexdigest(),
            ),
            lambda response: documents.parse_delete_result(response.body),
        )

    async def list_objects(
        self,
        prefix: str,
        *,
        delimiter: str | None = None,
        max_keys: int = 1000,
        token: str | None = None,
        start_after: str | None = None,
    ) -> documents.ListPage:
        """List one page of at most 1000 keys and common prefixes, each in UTF-8 byte order.

        ``start_after`` is for the first page, ``token`` for all others.
        """
        params = {
            "encoding-type": "url",
            "list-type": "2",
            "max-keys": str(max_keys),
            "prefix": prefix,
        }
        if delimiter is not None:
            params["delimiter"] = delimiter
        if token is not None:
            params["continuation-token"] = token
        if start_after is not None:
            params["start-after"] = start_after
        page = await self._transport.send(
            Request("ListObjectsV2", "GET", None, canonical_query(params)),
            lambda response: documents.parse_listing(response.body),
        )
        self._bucket_was_seen = True
        return page

    async def list_versions(
        self, prefix: str, *, max_keys: int = 1000, after: Position | None = None
    ) -> VersionPage:
        """List one page of at most 1000 versions and delete markers.

        By key in UTF-8 byte order, within a key the newest first. ``after`` is the
        ``next_position`` of the page before, or a key without a version to start after.
        """
        params = {
            "encoding-type": "url",
            "max-keys": str(max_keys),
            "prefix": prefix,
            "versions": "",
        }
        if after is not None:
            params["key-marker"], version_id = after
            if version_id is not None:
                params["version-id-marker"] = version_id
        page = await self._transport.send(
            Request("ListObjectVersions", "GET", None, canonical_query(params)),
            lambda response: parse_versions(response.body),
        )
        self._bucket_was_seen = True
        return page


def _version_query(version_id: str | None) -> str:
    return "" if version_id is None else canonical_query({"versionId": version_id})
