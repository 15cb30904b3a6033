"""The responses of S3. Only the sizes of a few written objects are stored."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections import OrderedDict
from email.utils import formatdate
from typing import Final
from urllib.parse import unquote_to_bytes

from benchmarks.null.bodies import MOST_KEPT
from benchmarks.null.content import digest
from benchmarks.null.listing import Recordings
from benchmarks.null.pages import DECLARATION, NAMESPACE, Pages, escaped, parameters
from benchmarks.null.protocol import MadeUp, Reply
from benchmarks.null.request import (
    CONTENT_MD5,
    COPY_SOURCE,
    DECODED_LENGTH,
    RANGE,
    BadRequestError,
    Request,
)

# No client takes it for an MD5, plain or of a multipart upload. It has no hyphen: AWS's CRT reads
# the number of parts after it, and hangs when there is none.
ETAG: Final = b'"madeupbythenullserver00000000001"'
REGION: Final = b"us-east-1"

_REMEMBERED: Final = 200_000
_UPLOADS: Final = 20_000
_SIZE = re.compile(rb"/(?:size|md5)-(\d{1,15})(?:\.\w+)?")
# Every object exists except the folders of the listing: some tools list nothing below an object.
_FOLDER = re.compile(rb"/[^/]+/recordings(?:/CA[0-9a-f]{32})?")
_RANGE = re.compile(rb"bytes=(\d*)-(\d*)")
_DELETED_KEY = re.compile(rb"<Key>([^<]*)</Key>")
_MODIFIED = formatdate(1_750_000_000, usegmt=True).encode()
_STATUS = {
    200: b"200 OK",
    204: b"204 No Content",
    206: b"206 Partial Content",
    404: b"404 Not Found",
    416: b"416 Requested Range Not Satisfiable",
    501: b"501 Not Implemented",
}


class S3:
    """Any bucket, any key."""

    def __init__(self, *, keys: int, size: int) -> None:
        self._size = size
        self.recordings = Recordings(keys)
        self._pages = Pages(self.recordings, size, ETAG)
        # Sizes of written keys, unless the name already holds the size.
        self._sizes: OrderedDict[bytes, int] = OrderedDict()
        self._uploads: OrderedDict[bytes, dict[bytes, int]] = OrderedDict()
        self._upload_number = 0
        self._lines: dict[int, bytes] = {}
        self.tick()

    def tick(self) -> None:
        """Set the Date of the responses, once a second."""
        fields = (
            b"\r\nDate: %b\r\nServer: null\r\n"
            b"x-amz-request-id: 4b1d0c0ffee0c0de\r\n"
            b"x-amz-id-2: aMbFjzTkbMDZmA2QJYkJvSjg1Y0JmRTFh\r\n"
        ) % formatdate(time.time(), usegmt=True).encode()
        self._lines = {status: b"HTTP/1.1 " + text + fields for status, text in _STATUS.items()}
        self._stored = self._lines[200] + b"Content-Length: 0\r\nETag: "

    def keep(self, request: Request) -> int:
        """DeleteObjects names its keys in the body; no other body matters."""
        return MOST_KEPT if request.query.startswith(b"delete") else 0

    def respond(self, request: Request, size: int, kept: bytes) -> Reply:
        method = request.method
        if method == b"PUT":
            return self._put(request, size)
        if request.path.find(b"/", 1) in (-1, len(request.path) - 1):
            return self._bucket(request, kept)
        if method in (b"GET", b"HEAD"):
            if _FOLDER.fullmatch(request.path):
                return self._refused(request, 404, b"NoSuchKey")
            return self.object(request, request.path)
        if method == b"DELETE":
            if b"uploadId=" in request.query:
                self._uploads.pop(parameters(request.query)["uploadId"], None)
            else:
                self._sizes.pop(request.path, None)
            return self._lines[204] + b"\r\n"
        if method == b"POST":
            return self._post(request)
        return self.refusal(501, b"NotImplemented")

    # --- objects ------------------------------------------------------------------------

    def size_of(self, path: bytes) -> int:
        """Return the object's size: that of the written one, else the one in its name."""
        if (size := self._sizes.get(path)) is not None:
            return size
        if found := _SIZE.fullmatch(path, path.rfind(b"/")):
            return int(found[1])
        return self._size

    def remember(self, path: bytes, size: int) -> None:
        """Record the size of a written object."""
        self._sizes.pop(path, None)
        if size != self.size_of(path):
            self._sizes[path] = size
            if len(self._sizes) > _REMEMBERED:
                self._sizes.popitem(last=False)

    def _put(self, request: Request, size: int) -> bytes:
        if (decoded := request.field(DECODED_LENGTH)) is not None:
            size = int(decoded)
        md5 = request.field(CONTENT_MD5)
        etag = ETAG if md5 is None else _etag_of(md5)
        if request.query and b"uploadId=" in request.query:
            given = parameters(request.query)
            parts = self._uploads.get(given["uploadId"])
            if parts is not None:
                parts[given.get("partNumber", b"")] = size
        elif request.field(COPY_SOURCE) is not None:
            return self.document(
                b"<CopyObjectResult %b><LastModified>2025-06-15T15:06:40.000Z</LastModified>"
                b"<ETag>%b</ETag></CopyObjectResult>" % (NAMESPACE, escaped(ETAG))
            )
        else:
            self.remember(request.path, size)
        return b"%b%b\r\n%b\r\n" % (self._stored, etag, request.checksums())

    def object(self, request: Request, path: bytes, fields: bytes = b"") -> Reply:
        """Return the object at a path, a range of it, or its head alone."""
        size = self.size_of(path)
        etag = ETAG if b"/md5-" not in path else b'"%b"' % digest("md5", size)
        wanted = request.field(RANGE)
        start, stop, status, line = 0, size, 200, b""
        if wanted is not None and (found := _RANGE.fullmatch(wanted)):
            if found[1]:
                start, stop = int(found[1]), min(int(found[2] or size) + 1, size)
            elif found[2]:
                start = max(0, size - int(found[2]))
            if start >= stop:
                return self._refused(request, 416, b"InvalidRange")
            status, line = 206, b"Content-Range: bytes %d-%d/%d\r\n" % (start, stop - 1, size)
        head = (
            b"%bContent-Type: binary/octet-stream\r\nContent-Length: %d\r\nAccept-Ranges: bytes\r\n"
            b"ETag: %b\r\nLast-Modified: %b\r\n%b%b\r\n"
        ) % (self._lines[status], stop - start, etag, _MODIFIED, line, fields)
        if request.method == b"HEAD" or start == stop:
            return head
        return MadeUp(head, start, stop - start)

    def _refused(self, request: Request, status: int, code: bytes) -> bytes:
        if request.method == b"HEAD":  # a response without a body, so without a reason
            return self._lines[status] + b"Content-Length: 0\r\n\r\n"
        return self.refusal(status, code)

    def _post(self, request: Request) -> bytes:
        bucket, _, key = request.path[1:].partition(b"/")
        place = (escaped(bucket), escaped(unquote_to_bytes(key)))
        if request.query.startswith(b"uploads"):
            self._upload_number += 1
            upload = b"null-upload-%020d" % self._upload_number
            self._uploads[upload] = {}
            if len(self._uploads) > _UPLOADS:
                self._uploads.popitem(last=False)
            return self.document(
                b"<InitiateMultipartUploadResult %b><Bucket>%b</Bucket><Key>%b</Key>"
                b"<UploadId>%b</UploadId></InitiateMultipartUploadResult>"
                % (NAMESPACE, *place, upload)
            )
        if b"uploadId=" not in request.query:
            return self.refusal(501, b"NotImplemented")
        parts = self._uploads.pop(parameters(request.query)["uploadId"], None)
        if parts is None:
            return self.refusal(404, b"NoSuchUpload")
        self.remember(request.path, sum(parts.values()))
        return self.document(
            b"<CompleteMultipartUploadResult %b><Location>/%b/%b</Location><Bucket>%b</Bucket>"
            b"<Key>%b</Key><ETag>%b</ETag></CompleteMultipartUploadResult>"
            % (NAMESPACE, *place, *place, escaped(ETAG))
        )

    # --- buckets ------------------------------------------------------------------------

    def _bucket(self, request: Request, kept: bytes) -> bytes:
        method, query = request.method, request.query
        if method == b"HEAD":
            fields = b"x-amz-bucket-region: %b\r\nContent-Length: 0\r\n\r\n" % REGION
            return self._lines[200] + fields
        if method == b"DELETE":
            return self._lines[204] + b"\r\n"
        if method == b"POST" and query.startswith(b"delete"):
            return self._delete(kept)
        if method != b"GET":
            return self.refusal(501, b"NotImplemented")
        bucket = request.path.strip(b"/")
        if not bucket:
            return self.document(
                b"<ListAllMyBucketsResult %b><Owner><ID>null</ID></Owner><Buckets><Bucket>"
                b"<Name>bench</Name><CreationDate>2025-06-15T15:06:40.000Z</CreationDate>"
                b"</Bucket></Buckets></ListAllMyBucketsResult>" % NAMESPACE
            )
        if query.startswith(b"location"):
            return self.document(
                b"<LocationConstraint %b>%b</LocationConstraint>" % (NAMESPACE, b"")
            )
        if query.startswith(b"versioning"):
            return self.document(b"<VersioningConfiguration %b/>" % NAMESPACE)
        if query.startswith((b"uploads", b"versions", b"cors", b"object-lock", b"policy")):
            return self.refusal(501, b"NotImplemented")
        return self.document(self._pages.listing(bucket, request.target, query), declared=True)

    def _delete(self, document: bytes) -> bytes:
        # The keys come and go as XML text, so they need no escaping.
        keys: list[bytes] = _DELETED_KEY.findall(document)
        if b"<Quiet>true</Quiet>" in document:
            keys = []
        deleted = b"".join([b"<Deleted><Key>%b</Key></Deleted>" % key for key in keys])
        return self.document(b"<DeleteResult %b>%b</DeleteResult>" % (NAMESPACE, deleted))

    # --- responses ----------------------------------------------------------------------

    def document(self, xml: bytes, *, status: int = 200, declared: bool = False) -> bytes:
        """Return a response in XML."""
        return self.typed(b"application/xml", xml if declared else DECLARATION + xml, status)

    def typed(self, content_type: bytes, body: bytes, status: int = 200) -> bytes:
        """Return a response of any type."""
        fields = b"Content-Type: %b\r\nContent-Length: %d\r\n\r\n" % (content_type, len(body))
        return self._lines[status] + fields + body

    def refusal(self, status: int, code: bytes) -> bytes:
        """Return an error as S3 words it."""
        return self.document(
            b"<Error><Code>%b</Code><Message>The null server does not do this.</Message>"
            b"<RequestId>4b1d0c0ffee0c0de</RequestId></Error>" % code,
            status=status,
        )


def _etag_of(md5: bytes) -> bytes:
    try:
        return b'"%b"' % base64.b64decode(md5, validate=True).hex().encode()
    except binascii.Error as error:
        raise BadRequestError("Content-MD5 is not in base64") from error
