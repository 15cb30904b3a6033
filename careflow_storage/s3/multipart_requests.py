"""Multipart uploads on the data plane: begin, complete, abort. Their parts are `S3Requests`'.

So that an upload in parts needs no aioboto3, whose import takes a second and 50 MiB. Formats:
"CreateMultipartUpload", "CompleteMultipartUpload" and "AbortMultipartUpload" of the *Amazon S3
API Reference*.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from careflow_storage.errors import ServerResponseError, StorageError
from careflow_storage.models import ChecksumAlgorithm
from careflow_storage.s3.exchange import Answer, Exchange, Request
from careflow_storage.s3.metadata import is_header_value
from careflow_storage.s3.protection_headers import key_headers_of
from careflow_storage.s3.requests import Stored, version_id_of
from careflow_storage.s3.signing import canonical_query
from careflow_storage.s3.xml import ERROR_FIELDS, require_root, unquote_etag
from careflow_storage.s3.xml_reader import WHITE_SPACE, read_document, refused

# B2's have about 100 characters.
_LONGEST_UPLOAD_ID = 1024


class Creation(NamedTuple):
    """A multipart upload that was begun.

    ``unsettled`` says that an earlier attempt failed in such a way that it may have begun another
    upload, whose ID never came here.
    """

    upload_id: str
    unsettled: bool = False


class MultipartRequests:
    """Begins and ends multipart uploads of one bucket."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def create(
        self,
        key: str,
        headers: Mapping[str, str],
        algorithm: ChecksumAlgorithm,
        *,
        live_read: int | None = None,
    ) -> Creation:
        """Begin a multipart upload of an object with these headers.

        ``live_read`` is the size in bytes of all its parts, if others shall read them before
        it is complete: B2's Live Read ("S3 Create Multipart Upload" of its API documents).
        """
        sent = dict(headers)
        if algorithm != "md5":
            sent["x-amz-checksum-algorithm"] = algorithm.upper()
        if live_read is not None:
            sent["x-backblaze-live-read-enabled"] = "true"
            sent["x-backblaze-live-read-part-size"] = str(live_read)
        request = Request("CreateMultipartUpload", "POST", key, "uploads=", sent, b"")
        upload_id = await self._exchange.send(request, lambda answer: _upload_id(request, answer))
        return Creation(upload_id, request.unsettled)

    async def complete(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[tuple[str, bytes]],
        algorithm: ChecksumAlgorithm,
        *,
        unless_exists: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Stored:
        """Put the parts, given by ETag and digest in their order, together to one object.

        ``headers`` are the object's: a customer's key is needed here, too, for parts with
        checksums of their own (AWS "CompleteMultipartUpload").
        """
        body = _completion(parts, algorithm)
        sent = {"content-type": "application/xml"}
        if unless_exists:
            sent["if-none-match"] = "*"
        if algorithm != "md5":
            sent |= key_headers_of(headers or {})
        request = Request(
            "CompleteMultipartUpload",
            "POST",
            key,
            canonical_query({"uploadId": upload_id}),
            sent,
            body,
            hashlib.sha256(body).hexdigest(),
        )
        return await self._exchange.send(request, lambda answer: _completed(request, answer))

    async def abort(self, key: str, upload_id: str) -> None:
        """Drop a multipart upload and the parts stored so far."""
        query = canonical_query({"uploadId": upload_id})
        await self._exchange.send(
            Request("AbortMultipartUpload", "DELETE", key, query, expects=204), lambda answer: None
        )


def _completion(parts: Sequence[tuple[str, bytes]], algorithm: ChecksumAlgorithm) -> bytes:
    pieces = [
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    ]
    name = f"Checksum{algorithm.upper()}"
    for number, (etag, digest) in enumerate(parts, start=1):
        check = ""
        if algorithm != "md5":
            check = f"<{name}>{base64.b64encode(digest).decode()}</{name}>"
        quoted = escape(f'"{etag}"', quote=False)
        pieces.append(f"<Part><PartNumber>{number}</PartNumber><ETag>{quoted}</ETag>{check}</Part>")
    return "".join([*pieces, "</CompleteMultipartUpload>"]).encode()


def _field(request: Request, answer: Answer, root: str, name: str) -> str:
    """Return the one field that is wanted of the answer's document."""
    try:
        # Amazon sends spaces while it works, to keep the connection alive.
        data = answer.body.lstrip(WHITE_SPACE.encode())
        document = read_document(data, ERROR_FIELDS | {name}, {})
        if document.root == "Error":
            require_root(document, root, request.operation)
        # Not every server calls it as Amazon does (rclone's root has no "Result" in its name). A
        # proxy's page instead of an answer is worth another attempt.
        found = document.fields.get(name) if document.root.startswith(root) else None
        if not found:
            raise refused(f"it has no {name}", retryable=True)
    except StorageError as error:
        error.operation, error.key = request.operation, request.key
        raise
    return found


def _upload_id(request: Request, answer: Answer) -> str:
    upload_id = _field(request, answer, "InitiateMultipartUpload", "UploadId")
    if not is_header_value(upload_id) or len(upload_id) > _LONGEST_UPLOAD_ID:
        # It goes into URLs, logs and errors.
        raise ServerResponseError(
            "The server's answer makes no sense: it has no UploadId that could be one.",
            operation=request.operation,
            key=request.key,
            retryable=True,
        )
    return upload_id


def _completed(request: Request, answer: Answer) -> Stored:
    etag = _field(request, answer, "CompleteMultipartUpload", "ETag")
    return Stored(unquote_etag(etag), version_id_of(answer.headers), {})
