"""The control plane: rare, intricate calls through the aioboto3 client.

Its own retries are off: the storage's retry policy is the only one. What it raises becomes a
`StorageError` here, errors inside a 200 answer included.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

from careflow_storage.errors import (
    CONNECTION_HINT,
    TLS_HINT,
    ConnectionFailedError,
    InvalidInputError,
    NotConfiguredError,
    ServerResponseError,
    StorageError,
    StorageTimeoutError,
    error_from_response,
)
from careflow_storage.models import ChecksumAlgorithm
from careflow_storage.s3.metadata import META_PREFIX
from careflow_storage.s3.requests import Stored
from careflow_storage.s3.retry import RetryPolicy
from careflow_storage.s3.session import S3Session
from careflow_storage.s3.xml import unquote_etag

T = TypeVar("T")

_HEADER_PARAMETERS = {
    "content-type": "ContentType",
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
}


class ControlPlane:
    """Multipart uploads and versions of one bucket."""

    def __init__(self, session: S3Session, retry: RetryPolicy) -> None:
        self._session = session
        self._retry = retry
        self._idle_timeout = session.settings.idle_timeout

    async def prepare(self) -> None:
        """Load the client, which takes a second the first time; no request is sent."""
        try:
            await self._session.client()
        except Exception as error:
            explained = _explain(error, {"operation": "CreateMultipartUpload"})
            if explained is None:
                raise
            raise explained from error

    async def create_multipart_upload(
        self, key: str, headers: Mapping[str, str], algorithm: ChecksumAlgorithm
    ) -> str:
        """Begin a multipart upload of an object with these headers; return its upload ID."""
        parameters: dict[str, Any] = {
            parameter: headers[name]
            for name, parameter in _HEADER_PARAMETERS.items()
            if name in headers
        }
        parameters["Metadata"] = {
            name.removeprefix(META_PREFIX): value
            for name, value in headers.items()
            if name.startswith(META_PREFIX)
        }
        if algorithm != "md5":
            parameters["ChecksumAlgorithm"] = algorithm.upper()
        return await self._call(
            "create_multipart_upload", key, parameters, lambda answer: str(answer["UploadId"])
        )

    async def complete_multipart_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[tuple[str, bytes]],
        algorithm: ChecksumAlgorithm,
        *,
        unless_exists: bool = False,
    ) -> Stored:
        """Put the parts, given by ETag and digest in their order, together to one object."""
        described: list[dict[str, Any]] = []
        for number, (etag, digest) in enumerate(parts, start=1):
            part: dict[str, Any] = {"PartNumber": number, "ETag": f'"{etag}"'}
            if algorithm != "md5":
                part[f"Checksum{algorithm.upper()}"] = base64.b64encode(digest).decode()
            described.append(part)
        parameters: dict[str, Any] = {
            "UploadId": upload_id,
            "MultipartUpload": {"Parts": described},
        }
        if unless_exists:
            parameters["IfNoneMatch"] = "*"
        return await self._call(
            "complete_multipart_upload",
            key,
            parameters,
            lambda answer: Stored(unquote_etag(answer["ETag"]), answer.get("VersionId"), {}),
        )

    async def abort_multipart_upload(self, key: str, upload_id: str) -> None:
        """Drop a multipart upload and the parts stored so far."""
        await self._call("abort_multipart_upload", key, {"UploadId": upload_id}, _whole)

    async def list_versions(self, key: str) -> AsyncIterator[tuple[str, bool]]:
        """Yield the version ID of each version and delete marker of exactly this key."""
        parameters: dict[str, Any] = {"Prefix": key}
        while True:
            page = await self._call("list_object_versions", None, parameters, _whole)
            for name, is_marker in (("Versions", False), ("DeleteMarkers", True)):
                for version in page.get(name, ()):
                    if version["Key"] == key:
                        yield version["VersionId"], is_marker
            if not page.get("IsTruncated"):
                return
            following = page["NextKeyMarker"]
            # Keys come in order: past our own there is nothing left of it.
            if following > key:
                return
            parameters |= {
                "KeyMarker": following,
                "VersionIdMarker": page.get("NextVersionIdMarker", ""),
            }

    async def list_uploads(self, key: str) -> AsyncIterator[str]:
        """Yield the upload ID of each unfinished multipart upload of exactly this key."""
        parameters: dict[str, Any] = {"Prefix": key}
        while True:
            page = await self._call("list_multipart_uploads", None, parameters, _whole)
            for upload in page.get("Uploads", ()):
                if upload["Key"] == key:
                    yield upload["UploadId"]
            if not page.get("IsTruncated"):
                return
            parameters |= {
                "KeyMarker": page["NextKeyMarker"],
                "UploadIdMarker": page["NextUploadIdMarker"],
            }

    async def _call(
        self,
        method: str,
        key: str | None,
        parameters: Mapping[str, Any],
        parse: Callable[[dict[str, Any]], T],
    ) -> T:
        operation = "".join(word.capitalize() for word in method.split("_"))
        where: dict[str, Any] = {
            "operation": operation,
            "bucket": self._session.bucket,
            "key": key,
        }
        arguments = {"Bucket": self._session.bucket, **parameters}
        if key is not None:
            arguments["Key"] = key

        async def attempt(_fresh: bool) -> T:
            try:
                client = await self._session.client()
                async with asyncio.timeout(self._idle_timeout):
                    answer = await getattr(client, method)(**arguments)
                return parse(answer)
            except KeyError as error:
                # botocore takes an empty 200 answer for success.
                raise ServerResponseError(
                    f"The server's answer makes no sense: it has no {error.args[0]}.",
                    retryable=True,
                    **where,
                ) from error
            except TimeoutError as error:
                raise StorageTimeoutError(
                    f"No answer within {self._idle_timeout:g} s.", retryable=True, **where
                ) from error
            except Exception as error:
                explained = _explain(error, where)
                if explained is None:
                    raise
                raise explained from error

        return await self._retry.run(attempt)


def _whole(answer: dict[str, Any]) -> dict[str, Any]:
    return answer


def _explain(error: Exception, where: dict[str, Any]) -> StorageError | None:
    # Imported here since importing botocore is what the light import avoids.
    from botocore import exceptions as botocore
    from botocore.parsers import ResponseParserError

    if isinstance(error, botocore.ClientError):
        details = error.response.get("Error", {})
        metadata = error.response.get("ResponseMetadata", {})
        code = details.get("Code")
        return error_from_response(
            status=int(metadata.get("HTTPStatusCode", 0)),
            code=None if code is None or code.isdigit() else code,
            message=details.get("Message"),
            headers=metadata.get("HTTPHeaders", {}),
            **where,
        )
    if isinstance(error, botocore.SSLError):
        return ConnectionFailedError(
            "No trusted TLS connection.",
            hint=TLS_HINT,
            **where,
        )
    if isinstance(error, botocore.ReadTimeoutError | botocore.ConnectTimeoutError):
        return StorageTimeoutError("No answer in time.", retryable=True, **where)
    if isinstance(error, botocore.HTTPClientError | botocore.ConnectionError):
        return ConnectionFailedError(
            f"The connection failed ({type(error).__name__}).",
            retryable=True,
            hint=CONNECTION_HINT,
            **where,
        )
    if isinstance(error, ResponseParserError):
        return ServerResponseError("The answer is not XML.", retryable=True, **where)
    if isinstance(error, botocore.NoCredentialsError):
        return NotConfiguredError(
            ("credentials",), hint="The session that was given holds no credentials.", **where
        )
    if isinstance(error, botocore.BotoCoreError):
        return InvalidInputError(str(error), **where)
    return None
