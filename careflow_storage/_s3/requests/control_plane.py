"""The control plane: rare, intricate calls through the aioboto3 client.

Its own retries are off: the storage's retry policy is the only one. What it raises becomes a
`StorageError` here, errors inside a 200 response included.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Hashable,
    Mapping,
)
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from careflow_storage._s3.boto.errors import explain
from careflow_storage._s3.boto.observed import observed_call
from careflow_storage._s3.boto.pages import (
    UploadPage,
    checked_page,
    upload_page,
)
from careflow_storage._s3.boto.read_timeout import response_timeout
from careflow_storage._s3.headers.encryption import (
    copy_source_headers,
    key_headers,
    key_headers_of,
    protection_parameters,
)
from careflow_storage._s3.headers.metadata import META_PREFIX
from careflow_storage._s3.headers.objects import StoreResult
from careflow_storage._s3.limiter import Limiter
from careflow_storage._s3.redaction import scrub
from careflow_storage._s3.requests.paging import LoopDetector
from careflow_storage._s3.retry import RetryPolicy
from careflow_storage._s3.session import S3Session
from careflow_storage._s3.xml.documents import unquote_etag
from careflow_storage.errors import ServerResponseError, StorageError, StorageTimeoutError
from careflow_storage.models import IncompleteUpload
from careflow_storage.protection import Encryption

if TYPE_CHECKING:
    from careflow_storage._s3.session import S3Client

T = TypeVar("T")

# A call costs milliseconds of the event loop: a thousand recordings that begin in the same moment
# must not hold it for seconds.
_CALLS_AT_ONCE = 16
# A copy is silent until it is done: at least so fast is what a server is expected to copy.
_COPIED_BYTES_PER_SECOND = 16 * 1024 * 1024


class ControlPlane:
    """Copies, unfinished multipart uploads and what else is rare, of one bucket."""

    def __init__(self, session: S3Session, retry: RetryPolicy) -> None:
        self._session = session
        self._retry = retry
        self._idle_timeout = session.settings.idle_timeout
        limit = min(_CALLS_AT_ONCE, session.settings.max_connections)
        self._limiter = Limiter(limit, session.settings.pool_timeout, session.rate)

    async def prepare(self) -> None:
        """Load the client, which takes a second the first time; no request is sent."""
        try:
            await self._session.client()
        except Exception as error:
            explained = explain(error, {})
            if explained is None:
                raise
            raise explained from error

    async def copy_object(
        self,
        source: CopySource,
        key: str,
        headers: Mapping[str, str],
        *,
        unless_exists: bool = False,
        settle: Callable[[], Awaitable[StoreResult | None]] | None = None,
    ) -> StoreResult:
        """Copy up to 5 GB within the bucket; ``headers`` take the place of the source's.

        ``settle`` finds out, before another attempt, whether an earlier one has made the copy.
        """
        parameters = {
            **object_parameters(headers),
            **source.parameters(self._session.bucket),
            "MetadataDirective": "REPLACE",
        }
        if unless_exists:
            parameters["IfNoneMatch"] = "*"
        return await self.call(
            "copy_object",
            key,
            parameters,
            _copied,
            settle=settle,
            extra_timeout=source.size / _COPIED_BYTES_PER_SECOND,
        )

    async def upload_part_copy(
        self,
        key: str,
        upload_id: str,
        number: int,
        source: CopySource,
        headers: Mapping[str, str],
        *,
        start: int,
        end: int,
    ) -> str:
        """Make a part of the bytes ``[start, end)`` of an object; return its ETag.

        ``headers`` are those of the object that it becomes a part of.
        """
        return await self.call(
            "upload_part_copy",
            key,
            {
                **protection_parameters(key_headers_of(headers)),
                **source.parameters(self._session.bucket),
                "UploadId": upload_id,
                "PartNumber": number,
                "CopySourceRange": f"bytes={start}-{end - 1}",
            },
            lambda response: unquote_etag(response["CopyPartResult"]["ETag"]),
            extra_timeout=(end - start) / _COPIED_BYTES_PER_SECOND,
        )

    async def list_uploads(self, key: str) -> list[str]:
        """List the upload IDs of the unfinished multipart uploads of exactly this key."""
        uploads = await self.list_incomplete(key)
        return [upload.upload_id for upload in uploads if upload.key == key]

    async def list_incomplete(self, prefix: str) -> list[IncompleteUpload]:
        """List the unfinished multipart uploads of all keys with this prefix."""
        return [upload async for page in self.incomplete_pages(prefix) for upload in page.uploads]

    def incomplete_pages(self, prefix: str) -> AsyncGenerator[UploadPage]:
        """Yield the unfinished multipart uploads with this prefix, 1000 per page and request."""
        return self.pages(
            "list_multipart_uploads",
            None,
            {"Prefix": prefix},
            lambda response: [upload_page(response, prefix)],
            {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"},
            _last_upload,
        )

    async def pages(
        self,
        method: str,
        key: str | None,
        parameters: Mapping[str, Any],
        parse: Callable[[dict[str, Any]], list[T]],
        markers: Mapping[str, str],
        name: Callable[[T], Hashable | None],
    ) -> AsyncGenerator[T]:
        """Yield what ``parse`` finds in each page of a listing; ``markers`` lead to the next.

        ``name`` returns what identifies an entry, or None.
        """
        position: dict[str, Any] = {}
        loops = LoopDetector(_operation(method), self._session.bucket, key)
        while True:
            response = await self.call(method, key, {**parameters, **position}, checked_page)
            try:
                found = parse(response)
                ended = not response["IsTruncated"]
                # Some servers leave a marker out that would be empty.
                following = {name: response.get(marker, "") for name, marker in markers.items()}
            except KeyError as error:
                raise self._malformed_page(method, key, f"it has no {error.args[0]}") from error
            for each in found:
                yield each
            if ended:
                return
            if not any(following.values()):
                raise self._malformed_page(method, key, "it repeats a page")
            position = following
            loops.check(tuple(position.values()), name(found[-1]) if found else None)

    def _malformed_page(self, method: str, key: str | None, why: str) -> ServerResponseError:
        return ServerResponseError(
            f"Malformed response: {why}.",
            operation=_operation(method),
            bucket=self._session.bucket,
            key=key,
        )

    async def call(
        self,
        method: str,
        key: str | None,
        parameters: Mapping[str, Any],
        parse: Callable[[dict[str, Any]], T],
        *,
        bucket: str | None = None,
        on_attempt: Callable[[], None] | None = None,
        settle: Callable[[], Awaitable[T | None]] | None = None,
        extra_timeout: float = 0.0,
    ) -> T:
        """Make one call of the client and read its response with ``parse``, with retries.

        ``parse`` belongs to the attempt: a field that it misses (`KeyError`) is worth another.
        ``bucket`` is another one than the storage's; "" for calls that are about none.
        ``settle`` is asked before each attempt but the first: what it gives is the result.
        ``extra_timeout`` is added to the idle timeout, in seconds.
        """
        limit, sent = self._idle_timeout + extra_timeout, count(1)
        bucket = self._session.bucket if bucket is None else bucket
        operation = _operation(method)
        where: dict[str, Any] = {"operation": operation, "bucket": bucket or None, "key": key}
        arguments = {"Bucket": bucket, **parameters} if bucket else dict(parameters)
        if key is not None:
            arguments["Key"] = key

        async def attempt(again: bool) -> T:
            if again and settle is not None:
                settled = await settle()
                if settled is not None:
                    return settled
            try:
                client = await self._session.client()
                if on_attempt is not None:
                    on_attempt()
                return parse(await self._send(client, method, arguments, limit, next(sent)))
            except StorageError as error:
                # What is refused before botocore reads it does not know what it responds.
                error.operation = error.operation or operation
                error.bucket, error.key = error.bucket or bucket or None, error.key or key
                raise
            except (KeyError, ValueError) as error:
                raise _malformed(error, where) from error
            except TimeoutError as error:
                raise StorageTimeoutError(
                    f"No response within {limit:g} s.", retryable=True, **where
                ) from error
            except Exception as error:
                explained = explain(error, where, self._session)
                if explained is None:
                    raise
                raise explained from error

        try:
            return await self._retry.run(attempt)
        except BaseException as error:
            scrub(error)
            raise

    async def _send(
        self, client: S3Client, method: str, arguments: dict[str, Any], limit: float, attempt: int
    ) -> dict[str, Any]:
        """Make one call of the client within ``limit`` seconds."""

        async def timed() -> dict[str, Any]:
            async with asyncio.timeout(limit):
                with response_timeout(limit):
                    found: dict[str, Any] = await getattr(client, method)(**arguments)
            return found

        observer, operation = self._session.observer, _operation(method)
        async with self._limiter:
            if observer is None:
                return await timed()
            return await observed_call(
                observer, client, operation, arguments, timed, attempt=attempt
            )


def _malformed(error: KeyError | ValueError, where: Mapping[str, Any]) -> ServerResponseError:
    # botocore takes an empty 200 response for success, and numbers and dates as they come.
    why = "a value is malformed"
    if isinstance(error, KeyError):
        why = f"it has no {error.args[0]}"
    return ServerResponseError(f"Malformed response: {why}.", retryable=True, **where)


def _last_upload(page: UploadPage) -> Hashable | None:
    return (page.uploads[-1].key, page.uploads[-1].upload_id) if page.uploads else None


def _copied(response: dict[str, Any]) -> StoreResult:
    return StoreResult(
        unquote_etag(response["CopyObjectResult"]["ETag"]), response.get("VersionId"), {}
    )


def _operation(method: str) -> str:
    return "".join(word.capitalize() for word in method.split("_"))


_NAMES = {
    "content-type": "ContentType",
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "expires": "Expires",
}


def object_parameters(headers: Mapping[str, str]) -> dict[str, Any]:
    """For CreateMultipartUpload and CopyObject."""
    parameters: dict[str, Any] = {
        parameter: headers[name] for name, parameter in _NAMES.items() if name in headers
    }
    parameters.update(protection_parameters(headers))
    parameters["Metadata"] = {
        name.removeprefix(META_PREFIX): value
        for name, value in headers.items()
        if name.startswith(META_PREFIX)
    }
    return parameters


@dataclass(frozen=True, slots=True)
class CopySource:
    """One version of a key, and its size in bytes.

    Where there are no versions its ETag pins it instead: a copy must not mix an object with the
    one that takes its place meanwhile.
    """

    key: str
    version_id: str | None
    size: int
    etag: str | None = None
    encryption: Encryption | None = None
    bucket: str | None = None

    def parameters(self, bucket: str) -> dict[str, Any]:
        """Return the parameters that name it, and the customer's key that it is read with.

        ``bucket`` is that of the copy, and of the source unless it has one of its own.
        """
        named = {"Bucket": self.bucket or bucket, "Key": self.key}
        if self.version_id is not None:
            named["VersionId"] = self.version_id
        parameters: dict[str, Any] = {"CopySource": named}
        if self.version_id is None and self.etag is not None:
            parameters["CopySourceIfMatch"] = f'"{self.etag}"'
        customer = copy_source_headers(key_headers(self.encryption))
        return {**parameters, **protection_parameters(customer)}
