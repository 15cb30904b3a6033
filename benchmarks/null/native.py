"""B2's native API for b2sdk, beside S3 on the same port.

A bucket's ID is its name, and a file's ID holds its path, so that nothing is looked up. As with
B2, an object that was uploaded in one piece has a SHA-1, by which a reader verifies it; here those
are the objects of up to 1 MiB.
"""

from __future__ import annotations

import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from benchmarks.null.bodies import MOST_KEPT
from benchmarks.null.content import BLOCK, digest
from benchmarks.null.pages import Cache, parameters
from benchmarks.null.protocol import Reply
from benchmarks.null.request import (
    CONTENT_SHA1,
    CONTENT_TYPE,
    FILE_NAME,
    HOST,
    PART_NUMBER,
    BadRequestError,
    Request,
)
from benchmarks.null.s3 import S3
from careflow_storage.testing.b2.native_documents import (
    UNREADABLE,
    bucket_document,
    storage_api_document,
)

_PREFIXES: Final = (b"/b2api/", b"/file/")
_CALL = re.compile(rb"/b2api/v\d/(b2_[a-z_0-9]+)(?:/(.*))?")
_FILE_ID = re.compile(r"4_z([0-9a-f]+)_n\d+")
_ACCOUNT: Final = "null00account"
_SHA1_LENGTH: Final = 40
_MOST_NAMES: Final = 10_000
_UPLOADS: Final = 20_000
_CAPABILITIES: Final = [
    *("listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles"),
    *("shareFiles", "readBuckets", "readBucketEncryption", "readBucketRetentions"),
]

JsonDict = dict[str, Any]


class Native:
    """Responds to requests of the native API, and passes the others to S3."""

    def __init__(self, s3: S3, *, tls: bool) -> None:
        self._s3 = s3
        self._scheme = "https" if tls else "http"
        self._listings = Cache()
        self._uploads: OrderedDict[str, dict[bytes, int]] = OrderedDict()
        self._number = 0
        self._calls: dict[str, Callable[[JsonDict, str], JsonDict]] = {
            "b2_list_buckets": self._list_buckets,
            "b2_get_upload_url": self._get_upload_url,
            "b2_get_upload_part_url": self._get_upload_part_url,
            "b2_start_large_file": self._start_large_file,
            "b2_finish_large_file": self._finish_large_file,
            "b2_cancel_large_file": self._forget,
            "b2_delete_file_version": self._forget,
            "b2_hide_file": self._hide_file,
            "b2_get_file_info": self._get_file_info,
            "b2_list_unfinished_large_files": self._list_unfinished,
        }

    def keep(self, request: Request) -> int:
        if not request.path.startswith(_PREFIXES):
            return self._s3.keep(request)
        if b"/b2_upload_" not in request.path:
            return MOST_KEPT
        return _SHA1_LENGTH if request.field(CONTENT_SHA1) == b"hex_digits_at_end" else 0

    def respond(self, request: Request, size: int, kept: bytes) -> Reply:
        if not request.path.startswith(_PREFIXES):
            return self._s3.respond(request, size, kept)
        if request.path.startswith(b"/file/"):
            return self._download(request, request.path.removeprefix(b"/file"))
        found = _CALL.fullmatch(request.path)
        if found is None:
            return self._refusal()
        call, rest = found[1].decode(), (found[2] or b"").decode()
        origin = f"{self._scheme}://{(request.field(HOST) or b'').decode()}"
        if call == "b2_authorize_account":
            return self._json(_account(origin))
        if call == "b2_download_file_by_id":
            file_id = parameters(request.query).get("fileId", b"").decode()
            return self._download(request, _path_of(file_id))
        if call in ("b2_upload_file", "b2_upload_part"):
            return self._upload(request, call, rest, size, kept)
        if call == "b2_list_file_names":
            listing = self._listings.get(kept, lambda: self._list_file_names(_read(kept)))
            return self._s3.typed(b"application/json", listing)
        if call not in self._calls:
            return self._refusal()
        return self._json(self._calls[call](_read(kept), origin))

    # --- bytes --------------------------------------------------------------------------

    def _download(self, request: Request, path: bytes) -> Reply:
        size = self._s3.size_of(path)
        fields = (
            b"X-Bz-File-Id: %b\r\nX-Bz-File-Name: %b\r\n"
            b"X-Bz-Content-Sha1: %b\r\nX-Bz-Upload-Timestamp: 1750000000000\r\n"
        ) % (
            _file_id(path).encode(),
            path.split(b"/", 2)[2],
            digest("sha1", size) if size <= BLOCK else b"none",
        )
        return self._s3.object(request, path, fields)

    def _upload(self, request: Request, call: str, rest: str, size: int, kept: bytes) -> bytes:
        sha1 = (request.field(CONTENT_SHA1) or b"none").decode()
        if sha1 == "hex_digits_at_end":
            size, sha1 = size - _SHA1_LENGTH, kept.decode("latin-1")
        if call == "b2_upload_part":
            number = request.field(PART_NUMBER) or b"0"
            if (parts := self._uploads.get(rest)) is not None:
                parts[number] = size
            part = {"fileId": rest, "partNumber": int(number)}
            return self._json(part | {"contentLength": size, "contentSha1": sha1})
        path = b"/%b/%b" % (rest.encode(), request.field(FILE_NAME) or b"")
        self._s3.remember(path, size)
        content_type = (request.field(CONTENT_TYPE) or b"").decode()
        return self._json(_version(path, size, sha1=sha1, content_type=content_type))

    # --- calls --------------------------------------------------------------------------

    def _list_buckets(self, given: JsonDict, origin: str) -> JsonDict:
        name = given.get("bucketName") or given.get("bucketId") or "bench"
        return {"buckets": [bucket_document(_ACCOUNT, name, name)]}

    def _get_upload_url(self, given: JsonDict, origin: str) -> JsonDict:
        bucket = given["bucketId"]
        url = f"{origin}/b2api/v4/b2_upload_file/{bucket}"
        return {"bucketId": bucket, "uploadUrl": url, "authorizationToken": "null"}

    def _get_upload_part_url(self, given: JsonDict, origin: str) -> JsonDict:
        file_id = given["fileId"]
        url = f"{origin}/b2api/v4/b2_upload_part/{file_id}"
        return {"fileId": file_id, "uploadUrl": url, "authorizationToken": "null"}

    def _start_large_file(self, given: JsonDict, origin: str) -> JsonDict:
        self._number += 1
        path = _path(given["bucketId"], given["fileName"])
        file_id = _file_id(path, self._number)
        self._uploads[file_id] = {}
        if len(self._uploads) > _UPLOADS:
            self._uploads.popitem(last=False)
        return _version(path, 0, action="start", sha1="none") | {"fileId": file_id}

    def _finish_large_file(self, given: JsonDict, origin: str) -> JsonDict:
        file_id = given["fileId"]
        path = _path_of(file_id)
        size = sum(self._uploads.pop(file_id, {}).values())
        self._s3.remember(path, size)
        return _version(path, size, sha1="none") | {"fileId": file_id}

    def _forget(self, given: JsonDict, origin: str) -> JsonDict:
        self._uploads.pop(given["fileId"], None)
        return _version(_path_of(given["fileId"]), 0, action="delete")

    def _hide_file(self, given: JsonDict, origin: str) -> JsonDict:
        # Not null, which b2sdk 2.10 cannot read.
        path = _path(given["bucketId"], given["fileName"])
        return _version(path, 0, action="hide", sha1="none")

    def _get_file_info(self, given: JsonDict, origin: str) -> JsonDict:
        path = _path_of(given["fileId"])
        return _version(path, self._s3.size_of(path), sha1="none")

    def _list_unfinished(self, given: JsonDict, origin: str) -> JsonDict:
        return {"files": [], "nextFileId": None}

    def _list_file_names(self, given: JsonDict) -> bytes:
        recordings = self._s3.recordings
        begin = recordings.number_of((given.get("startFileName") or "").encode())
        most = min(given.get("maxFileCount") or 100, _MOST_NAMES)
        prefix, delimiter = (given.get(name) or "" for name in ("prefix", "delimiter"))
        page = recordings.page(prefix.encode(), delimiter.encode(), begin, most)
        bucket = given["bucketId"].encode()
        files = [
            _version(path, self._s3.size_of(path), sha1="none")
            | {"uploadTimestamp": entry.modified_ms}
            for entry in page.entries
            for path in (b"/%b/%b" % (bucket, entry.key),)
        ]
        files += [
            _version(b"/%b/%b" % (bucket, prefix), 0, action="folder") for prefix in page.prefixes
        ]
        following = None if page.following is None else recordings.key(page.following).decode()
        return json.dumps({"files": files, "nextFileName": following}).encode()

    # --- responses ----------------------------------------------------------------------

    def _json(self, document: JsonDict) -> bytes:
        return self._s3.typed(b"application/json", json.dumps(document).encode())

    def _refusal(self) -> bytes:
        document = {"status": 404, "code": "not_found", "message": "There is no such call here"}
        return self._s3.typed(b"application/json", json.dumps(document).encode(), 404)


def _account(origin: str) -> JsonDict:
    allowed = {"buckets": None, "capabilities": _CAPABILITIES, "namePrefix": None}
    return {
        "accountId": _ACCOUNT,
        "apiInfo": {"storageApi": storage_api_document(origin) | {"allowed": allowed}},
        "applicationKeyExpirationTimestamp": None,
        "authorizationToken": "4_null",
    }


def _version(
    path: bytes,
    size: int,
    *,
    action: str = "upload",
    sha1: str | None = None,
    content_type: str = "application/octet-stream",
) -> JsonDict:
    _, bucket, name = path.split(b"/", 2)
    return {
        "accountId": _ACCOUNT,
        "action": action,
        "bucketId": bucket.decode(),
        "contentLength": size,
        "contentMd5": None,
        "contentSha1": sha1,
        "contentType": content_type,
        "fileId": _file_id(path),
        "fileInfo": {},
        "fileName": unquote_to_bytes(name).decode(),
        "fileRetention": UNREADABLE,
        "legalHold": UNREADABLE,
        "uploadTimestamp": int(time.time() * 1000),
    }


def _path(bucket: str, name: str) -> bytes:
    return f"/{bucket}/{quote_from_bytes(name.encode(), safe='/')}".encode()


def _file_id(path: bytes, number: int = 0) -> str:
    return f"4_z{path.hex()}_n{number}"


def _path_of(file_id: str) -> bytes:
    found = _FILE_ID.fullmatch(file_id)
    path = bytes.fromhex(found[1]) if found else b""
    if path.count(b"/") < 2:
        raise BadRequestError(f"no ID of a file: {file_id[:100]}")
    return path


def _read(body: bytes) -> JsonDict:
    try:
        given = json.loads(body or b"{}")
    except ValueError as error:
        raise BadRequestError("the body is not in JSON") from error
    if not isinstance(given, dict):
        raise BadRequestError("the body is no JSON object")
    return given
