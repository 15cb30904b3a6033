"""Multipart uploads on the data plane: create, list parts, complete, abort.

`S3Requests` sends the parts. No request here needs aioboto3, whose import takes a second and
50 MiB. Formats: "CreateMultipartUpload", "ListParts", "CompleteMultipartUpload" and
"AbortMultipartUpload" of the *Amazon S3 API Reference*.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple
from urllib.parse import unquote, unquote_plus

from careflow_storage._s3.headers.encryption import key_headers_of
from careflow_storage._s3.headers.metadata import is_header_value
from careflow_storage._s3.headers.objects import StoreResult, version_id_of
from careflow_storage._s3.requests.paging import LoopDetector
from careflow_storage._s3.requests.parts import ListedPart, parse_parts
from careflow_storage._s3.signing.signer import canonical_query
from careflow_storage._s3.transport import Request, Response, Transport
from careflow_storage._s3.xml.documents import ERROR_FIELDS, require_root, unquote_etag
from careflow_storage._s3.xml.reader import WHITE_SPACE, read_document, refused
from careflow_storage.errors import ServerResponseError, StorageError
from careflow_storage.models import ChecksumAlgorithm

# B2's have about 100 characters.
_LONGEST_UPLOAD_ID = 1024
_ALIASES = ("-s3alias", "--ol-s3", "--xa-s3")
_XML_CARRIES = re.compile(r"[^\x00-\x1f\x7f-\x9f\ufffd-\uffff]*").fullmatch


class BegunUpload(NamedTuple):
    """A multipart upload that was begun.

    ``unsettled`` says that an earlier attempt failed in such a way that it may have begun another
    upload, whose ID never came here.
    """

    upload_id: str
    unsettled: bool = False


class MultipartRequests:
    """Begins and ends multipart uploads of one bucket."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(
        self,
        key: str,
        headers: Mapping[str, str],
        algorithm: ChecksumAlgorithm,
        *,
        live_read: int | None = None,
    ) -> BegunUpload:
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
        bucket = self._transport.session.bucket
        upload_id = await self._transport.send(
            request, lambda response: _upload_id(request, bucket, response)
        )
        return BegunUpload(upload_id, request.unsettled)

    async def list_parts(self, key: str, upload_id: str) -> list[ListedPart]:
        """List the parts that the server holds, by number. 1 request per 1000 parts.

        SeaweedFS lists a part that was sent several times once for each time, in any order:
        `latest_parts` chooses.

        Raises:
            NoSuchUploadError: The upload was completed or aborted.
        """
        parts: list[ListedPart] = []
        loops = LoopDetector("ListParts", self._transport.session.bucket, key)
        params = {"max-parts": "1000", "uploadId": upload_id}
        while True:
            page = await self._transport.send(
                Request("ListParts", "GET", key, canonical_query(params)),
                lambda response: parse_parts(response.body),
            )
            parts += page.parts
            if page.next_marker is None:
                return sorted(parts, key=lambda part: part.number)
            last = page.parts[-1].number if page.parts else None
            loops.check(page.next_marker, last)
            params["part-number-marker"] = page.next_marker

    async def complete(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[tuple[str, bytes]],
        algorithm: ChecksumAlgorithm,
        *,
        unless_exists: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> StoreResult:
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
        bucket = self._transport.session.bucket
        return await self._transport.send(
            request, lambda response: _completed(request, bucket, response)
        )

    async def abort(self, key: str, upload_id: str) -> None:
        """Drop a multipart upload and the parts stored so far."""
        query = canonical_query({"uploadId": upload_id})
        await self._transport.send(
            Request("AbortMultipartUpload", "DELETE", key, query, expects=204, urgent=True),
            lambda response: None,
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


def _field(request: Request, bucket: str, response: Response, root: str, name: str) -> str:
    """Return the one field that is wanted of the response's document."""
    try:
        # Amazon sends spaces while it works, to keep the connection alive.
        data = response.body.lstrip(WHITE_SPACE.encode())
        document = read_document(data, ERROR_FIELDS | {name, "Bucket", "Key"}, {})
        if document.root == "Error":
            require_root(document, root, request.operation)
        # Not every server calls it as Amazon does (rclone's root has no "Result" in its name). A
        # proxy's page instead of a response is worth another attempt.
        found = document.fields.get(name) if document.root.startswith(root) else None
        if not found:
            raise refused(f"it has no {name}", retryable=True)
        if not _repeats_key(document.fields.get("Key"), request.key or ""):
            raise _of_another(request, "key")
        if not _repeats_bucket(document.fields.get("Bucket"), bucket):
            raise _of_another(request, "bucket")
    except StorageError as error:
        error.operation, error.key = request.operation, request.key
        raise
    return found


def _upload_id(request: Request, bucket: str, response: Response) -> str:
    upload_id = _field(request, bucket, response, "InitiateMultipartUpload", "UploadId")
    if not is_header_value(upload_id) or len(upload_id) > _LONGEST_UPLOAD_ID:
        # It goes into URLs, logs and errors.
        raise ServerResponseError(
            "Malformed response: its UploadId is invalid.",
            operation=request.operation,
            key=request.key,
            retryable=True,
        )
    return upload_id


def _repeats_key(said: str | None, key: str) -> bool:
    """Whether a response names the key that was asked, if any, in one of the servers' forms.

    Some percent-encode it. SeaweedFS folds double slashes, leaves out those at the start, and
    makes slashes of backslashes.
    What XML cannot carry each server replaces in its own way.
    """
    if not said or said == key or not _XML_CARRIES(key):
        return True
    forms = (said, unquote(said), unquote_plus(said))
    return _folded(key) in map(_folded, forms)


def _folded(key: str) -> str:
    return "/".join(name for name in key.replace("\\", "/").split("/") if name)


def _repeats_bucket(said: str | None, bucket: str) -> bool:
    """Whether a response names the bucket that was asked, if any.

    Behind an access point's alias it is the bucket's own name (AWS "CreateMultipartUpload").
    """
    return not said or unquote(said).strip("/") == bucket or bucket.endswith(_ALIASES)


def _of_another(request: Request, what: str) -> ServerResponseError:
    return ServerResponseError(
        f"The server's response names another {what} than was asked.",
        operation=request.operation,
        key=request.key,
        hint="The server, or a proxy before it, confuses requests: see which one it is.",
    )


def _completed(request: Request, bucket: str, response: Response) -> StoreResult:
    etag = _field(request, bucket, response, "CompleteMultipartUpload", "ETag")
    return StoreResult(unquote_etag(etag), version_id_of(response.headers), {})
