"""The emulator: turns a request into the response that B2 would send."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote
from xml.sax.saxutils import escape

from careflow_storage._log_fields import log_fields
from careflow_storage._s3.headers.metadata import META_PREFIX
from careflow_storage._s3.xml.reader import Document, read_document
from careflow_storage.errors import ServerResponseError
from careflow_storage.testing.b2 import bucket_settings, cors, limits, listings, live_read, ranges
from careflow_storage.testing.b2.errors import (
    B2Response,
    RefusedError,
    denied,
    malformed,
    unsupported,
)
from careflow_storage.testing.b2.keys import ApplicationKey, KeyRing
from careflow_storage.testing.b2.native import NativeApi
from careflow_storage.testing.b2.payload import verified_body
from careflow_storage.testing.b2.protection import ObjectProtection
from careflow_storage.testing.b2.signatures import authenticate
from careflow_storage.testing.b2.xml import document
from careflow_storage.testing.proxy.operations import NATIVE_PATH, Target, read_target

if TYPE_CHECKING:
    from careflow_storage.testing.b2.store import MotoStore, Upload

_log = logging.getLogger(__name__)
_XML = {"Content-Type": "application/xml"}
_PUBLIC = ("GetObject", "HeadObject")
_ANONYMOUS_KEY = ApplicationKey("", "", frozenset({"readFiles"}))
_STREAMED = ("x-amz-trailer", "x-amz-decoded-content-length")
_MAX_ENTRIES = 1000


@dataclass
class Account:
    """The settings of the account, which a test may change between requests."""

    region: str
    tls: bool = False
    keys: KeyRing = field(default_factory=KeyRing)
    capped: frozenset[str] = frozenset()
    clock_skew: timedelta = timedelta(0)

    def now(self) -> datetime:
        """The server's time."""
        return datetime.now(UTC) + self.clock_skew


class Emulator:
    """Applies B2's rules to a store. Only one thread at a time may use it."""

    def __init__(self, account: Account, store: MotoStore) -> None:
        self._account = account
        self._store = store
        self._native = NativeApi(account, store)
        self._protection = ObjectProtection(store)
        self._own: dict[str, Callable[[_Call], B2Response]] = {
            **bucket_settings.handlers(store, self._ask),
            "Preflight": lambda call: cors.preflight(store, call.target.bucket, call.headers),
            "PutBucketCors": lambda call: cors.put_cors(self._ask, call),
            "CreateBucket": self._create_bucket,
            "HeadBucket": self._head_bucket,
            "GetObject": self._get,
            "HeadObject": self._get,
            "PutObject": self._put,
            "CopyObject": self._copy,
            "DeleteObject": self._delete,
            "DeleteObjects": self._delete_many,
            "CreateMultipartUpload": self._create_upload,
            "UploadPart": self._upload_part,
            "UploadPartCopy": self._copy,
            "CompleteMultipartUpload": self._complete,
            "AbortMultipartUpload": self._ask,
            "ListObjectsV2": self._list_objects,
            "ListObjectVersions": self._list_versions,
            "ListParts": self._list_parts,
            "ListMultipartUploads": self._list_uploads,
            "GetObjectTagging": lambda _: B2Response(200, _XML, listings.NO_TAGS),
        }

    def handle(self, method: str, target: str, headers: dict[str, str], body: bytes) -> B2Response:
        """Handle a request; header names in lower case. Never raises for what a client sends."""
        try:
            response = self._handle(method, target, headers, body)
        except RefusedError as refusal:
            response = refusal.response()
        except NotImplementedError:  # moto does not implement it
            response = unsupported().response()
        except Exception as error:  # noqa: BLE001 - report it and continue, as a server does
            _log.exception(
                "The emulator failed at %s %s",
                method,
                target.partition("?")[0],
                extra=log_fields("emulator_failed", http_method=method),
            )
            response = RefusedError(
                500, "InternalError", f"The emulator failed: {error!r}"
            ).response()
        request_id = secrets.token_hex(8)
        common = {
            "Server": "nginx",
            "Date": format_datetime(self._account.now(), usegmt=True),
            "x-amz-request-id": request_id,
            "x-amz-id-2": secrets.token_urlsafe(42),
        }
        given = {
            name: value
            for name, value in response.headers.items()
            if name.lower() not in ("date", "server", "x-amzn-requestid", "x-amz-request-id")
        }
        for_browsers = self.cors_headers(method, target, headers)
        return B2Response(response.status, {**common, **for_browsers, **given}, response.body)

    def cors_headers(self, method: str, target: str, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the CORS headers of the response to a request, whatever its status."""
        if "origin" not in headers or target.startswith(NATIVE_PATH):
            return {}
        bucket = read_target(method, target, headers).bucket
        return cors.response_headers(self._store, bucket, method, headers)

    def _handle(self, method: str, target: str, headers: dict[str, str], body: bytes) -> B2Response:
        if target.startswith(NATIVE_PATH):
            return self._native.response(target, headers, body)
        read = read_target(method, target, headers)
        if read.operation == "Preflight":
            return self._own[read.operation](_Call(_ANONYMOUS_KEY, method, read, headers, body))
        account = self._account
        signer = authenticate(
            method, target, headers, keys=account.keys, region=account.region, now=account.now()
        )
        length = headers.get("x-amz-decoded-content-length") or headers.get("content-length", "")
        size = int(length) if length.isdigit() else len(body)
        request = limits.B2Request(
            method, read.operation, read.bucket, read.key, read.query, headers, size
        )
        for rule in limits.REQUEST_RULES:
            rule(request)
        limits.within_caps(read.operation, account.capped)
        key = signer or self._anonymous(read)
        version_id = read.query.get("versionId")
        key._require(read.operation, read.bucket, read.key, version_id=version_id)
        key._require_listing(read.operation, read.query.get("prefix", ""))
        body, trailer = verified_body(body, headers)
        sent = {n: v for n, v in headers.items() if n not in _STREAMED} | trailer
        if sent.get("content-encoding", "").startswith("aws-chunked"):
            sent["content-encoding"] = sent["content-encoding"][len("aws-chunked") :].lstrip(", ")
        sent["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD"
        protection = self._protection
        call = _Call(key, method, read, protection.without(sent), body)
        if read.bucket and read.operation != "CreateBucket":
            self._store.backend.get_bucket(read.bucket)
        if "uploadId" in read.query:
            self._upload(call)
        protection.check(key, read, sent)
        about_locks = protection.response(key, read, sent, body)
        if about_locks is not None:
            return about_locks
        return protection.done(key, read, sent, self._own.get(read.operation, self._ask)(call))

    def _anonymous(self, target: Target) -> ApplicationKey:
        """Without a key, only objects of public buckets can be read (the page on app keys)."""
        if target.operation in _PUBLIC and self._store.has_bucket(target.bucket):
            acl = self._store.backend.get_bucket(target.bucket).acl
            if acl is not None and acl.public_read:
                return _ANONYMOUS_KEY
        raise denied("Unauthenticated requests are not allowed for this api")

    def _ask(self, call: _Call) -> B2Response:
        query = dict(call.target.query)
        if query.get("max-keys", "").isdigit():
            query["max-keys"] = str(min(_MAX_ENTRIES, int(query["max-keys"])))
        target = call.target._replace(query=query)
        return self._store.ask(target, call.method, call.headers, call.body)

    def _create_bucket(self, call: _Call) -> B2Response:
        name = call.target.bucket
        if self._store.has_bucket(name):
            raise RefusedError(
                409,
                "BucketAlreadyOwnedByYou",
                "Your previous request to create the named bucket succeeded and you already own it",
            )
        self._store.backend.create_bucket(name)
        if call.headers.get("x-amz-acl") == "public-read":
            self._store.set_public(name)
        return B2Response(200, {"Location": f"/{name}"})

    def _head_bucket(self, _call: _Call) -> B2Response:
        return B2Response(200, {"x-amz-bucket-region": self._account.region})

    def _get(self, call: _Call) -> B2Response:
        """A hidden key is a 404 with a marker header (b2-mcp); a missing one may be a 403."""
        _, bucket, key, query = call.target
        version_id = query.get("versionId")
        if version_id is not None:
            upload = self._store.upload(bucket, key, version_id)
            if upload is not None and upload.live_read:
                return live_read.read(upload, call.headers, query)
            found = self._store.find(bucket, key, version_id)
        else:
            found = self._store.newest(bucket, key)
        if found is None and not call.key._sees_what_is_missing:
            raise denied("Cannot access bucket")
        if found is None or self._store.is_marker(found):
            headers = {}
            if found is not None:
                headers = {"x-amz-delete-marker": "true", "x-amz-version-id": found.version_id}
            code = "NoSuchKey" if version_id is None or found is not None else "NoSuchVersion"
            raise RefusedError(404, code, "The specified key does not exist.", headers)
        if "partNumber" in query:
            return self._get_part(call, found.multipart)
        whole = self._ask(replace(call, headers=ranges.without_range(call.headers)))
        return ranges.in_range(whole, call.headers)

    def _get_part(self, call: _Call, upload: Upload | None) -> B2Response:
        """Return one part of a finished upload; moto returns the whole object, or a wrong ETag."""
        query = dict(call.target.query)
        number = int(query.pop("partNumber"))
        headers = ranges.without_range(call.headers)
        whole = self._ask(replace(call, target=call.target._replace(query=query), headers=headers))
        if whole.status != 200:
            return whole
        # An object that one PUT has stored is its only part.
        shown = {name.lower(): value for name, value in whole.headers.items()}
        sizes = upload.sizes if upload is not None else [int(shown["content-length"])]
        if number > len(sizes):
            raise RefusedError(416, "InvalidPartNumber", "The requested partnumber is not there")
        start, end = sum(sizes[: number - 1]), sum(sizes[:number])
        part = ranges.part_of(whole, start, end - 1, sum(sizes)) if start < end else whole
        return replace(part, headers=part.headers | {"x-amz-mp-parts-count": str(len(sizes))})

    def _put(self, call: _Call) -> B2Response:
        response = self._ask(call)
        if response.status == 200:
            stored = self._store.newest(call.target.bucket, call.target.key)
            stored.metadata.update(_metadata(call.headers))
        return response

    def _copy(self, call: _Call) -> B2Response:
        source, _, query = call.headers["x-amz-copy-source"].partition("?")
        plain = unquote(source, errors="surrogateescape")
        bucket, _, key = plain.removeprefix("/").partition("/")
        version_id = unquote(query.removeprefix("versionId="))
        call.key._require("GetObject", bucket, key, version_id=None)
        if version_id:
            found = self._store.find(bucket, key, version_id)
        else:
            found = self._store.newest(bucket, key)
        if found is None or self._store.is_marker(found):
            code = "NoSuchVersion" if version_id else "NoSuchKey"
            raise RefusedError(404, code, "The specified key does not exist.")
        return self._ask(call)

    def _delete(self, call: _Call) -> B2Response:
        _, bucket, key, query = call.target
        bypass = call.headers.get("x-amz-bypass-governance-retention", "").lower() == "true"
        headers = self._store.delete(bucket, key, query.get("versionId"), bypass=bypass)
        return B2Response(204, headers)

    def _delete_many(self, call: _Call) -> B2Response:
        """Delete up to 1000 entries, each with its own permission (apidocs/s3-delete-objects)."""
        request = _read(call.body, frozenset({"Quiet"}), {"Object": {"Key", "VersionId"}})
        entries = request.records_of("Object")
        if not 1 <= len(entries) <= _MAX_ENTRIES or any("Key" not in each for each in entries):
            raise malformed()
        lines = [self._delete_one(call, each["Key"], each.get("VersionId")) for each in entries]
        if request.fields.get("Quiet") == "true":
            lines = [line for line in lines if line.startswith("<Error>")]
        return B2Response(200, _XML, document("DeleteResult", "".join(lines)))

    def _delete_one(self, call: _Call, key: str, version_id: str | None) -> str:
        bucket = call.target.bucket
        name = f"<Key>{escape(key)}</Key>"
        if version_id:
            name += f"<VersionId>{escape(version_id)}</VersionId>"
        bypass = call.headers.get("x-amz-bypass-governance-retention", "").lower() == "true"
        try:
            call.key._require("DeleteObject", bucket, key, version_id=version_id)
            headers = self._store.delete(bucket, key, version_id, bypass=bypass)
        except RefusedError as refusal:
            why = f"<Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message>"
            return f"<Error>{name}{why}</Error>"
        if headers.get("x-amz-delete-marker") == "true":
            marker = escape(headers["x-amz-version-id"])
            name += "<DeleteMarker>true</DeleteMarker>"
            name += f"<DeleteMarkerVersionId>{marker}</DeleteMarkerVersionId>"
        return f"<Deleted>{name}</Deleted>"

    def _create_upload(self, call: _Call) -> B2Response:
        response = self._ask(call)
        upload = max(self._store.uploads(call.target.bucket), key=lambda each: each.initiated)
        upload.metadata.update(_metadata(call.headers))
        live_read.begin(upload, call.headers)
        return response

    def _upload_part(self, call: _Call) -> B2Response:
        upload, number = self._upload(call), int(call.target.query["partNumber"])
        live_read.check_part(upload, number, len(call.body))
        live_read.check_order(upload, number)
        return self._ask(call)

    def _complete(self, call: _Call) -> B2Response:
        """The list of parts is in order and without repetitions; codes as AWS has them."""
        document = _read(call.body, frozenset(), {"Part": {"PartNumber", "ETag"}})
        parts = document.records_of("Part")
        try:
            numbers = [int(part["PartNumber"]) for part in parts if part["ETag"]]
        except (KeyError, ValueError):
            raise malformed() from None
        if not numbers or len(numbers) != len(parts):
            raise malformed()
        if sorted(set(numbers)) != numbers:
            raise RefusedError(
                400, "InvalidPartOrder", "The list of parts was not in ascending order."
            )
        return self._ask(call)

    def _list_objects(self, call: _Call) -> B2Response:
        response = self._ask(call)
        return replace(response, body=listings.encode_start(response.body, call.target.query))

    def _list_versions(self, call: _Call) -> B2Response:
        bucket, query = call.target.bucket, call.target.query
        if query.get("delimiter"):
            return self._ask(call)
        return B2Response(200, _XML, listings.versions(self._store.stored(bucket), bucket, query))

    def _list_parts(self, call: _Call) -> B2Response:
        body = listings.parts(self._upload(call), call.target.bucket, call.target.query)
        return B2Response(200, _XML, body)

    def _list_uploads(self, call: _Call) -> B2Response:
        uploads = [
            upload
            for upload in self._store.uploads(call.target.bucket)
            if upload.key_name.startswith(call.key.name_prefix)
        ]
        return B2Response(
            200, _XML, listings.uploads(uploads, call.target.bucket, call.target.query)
        )

    def _upload(self, call: _Call) -> Upload:
        _, bucket, key, query = call.target
        upload = self._store.upload(bucket, key, query["uploadId"])
        if upload is None:
            raise RefusedError(404, "NoSuchUpload", "The specified upload does not exist.")
        return upload


@dataclass(frozen=True, slots=True)
class _Call:
    """An allowed request, its key, and its decoded body."""

    key: ApplicationKey
    method: str
    target: Target
    headers: dict[str, str]
    body: bytes


def _metadata(headers: Mapping[str, str]) -> dict[str, str]:
    # moto drops names with some of the characters that B2 allows.
    return {name: value for name, value in headers.items() if name.startswith(META_PREFIX)}


def _read(body: bytes, fields: frozenset[str], records: dict[str, set[str]]) -> Document:
    try:
        return read_document(body, fields, {n: frozenset(f) for n, f in records.items()})
    except ServerResponseError:
        raise malformed() from None
