"""The stored objects: moto's S3, without its sockets, its globals and some of its errors.

moto keeps the objects of a process in one global place, which ``mock_aws`` clears. Every store
here has its own backend, and its objects are not in moto's registers.
"""

from __future__ import annotations

import hashlib
import io
import secrets
import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from moto.core.request import Request
from moto.s3 import models, responses
from moto.s3.exceptions import S3ClientError

from careflow_storage.testing.b2.errors import B2Response, RefusedError
from careflow_storage.testing.b2.stored import MotoVersion, StoredUpload, StoredVersion
from careflow_storage.testing.proxy.operations import Target

if not hasattr(Request, "from_primitives"):
    raise ImportError("at least moto 5.2.4")

_ACCOUNT = "123456789012"
_REGION = "us-east-1"  # moto's; clients never see it
_CREDENTIAL = f"AWS4-HMAC-SHA256 Credential=any/20200101/{_REGION}/s3/aws4_request"
# New buckets encrypt (docs/cloud-storage-server-side-encryption-with-the-native-api).
_ENCRYPTED = {"Rule": {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}}
# Checked before moto sees the request, or irrelevant to moto.
_HIDDEN = ("authorization", "content-md5", "expect", "host", "transfer-encoding")


class Upload(models.FakeMultipart):
    """A multipart upload with its start time, which can be read while it runs."""

    initiated: datetime
    min_part_size: int
    sizes: Sequence[int] = ()
    live_read: bool = False
    completed: bool = False
    live_part_size: int | None = None

    def complete(self, body: Any) -> tuple[bytes, str, Any]:
        """Join the parts; the error codes are AWS's."""
        chosen = []
        for number, etag in body:
            part = self.parts.get(number)
            if part is None or part.etag.strip('"') != etag.strip('"'):
                raise RefusedError(
                    400,
                    "InvalidPart",
                    "One or more of the specified parts could not be found.",
                )
            chosen.append(part)
        if any(part.contentsize < self.min_part_size for part in chosen[:-1]):
            raise RefusedError(
                400,
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
            )
        md5s = b"".join(bytes.fromhex(part.etag.strip('"')) for part in chosen)
        etag = hashlib.md5(md5s, usedforsecurity=False).hexdigest()
        algorithm = self.metadata.get("x-amz-checksum-algorithm")
        checksums = models.MultipartChecksumBuilder(
            algorithm, self.metadata.get("x-amz-checksum-type")
        )
        self.sizes = [part.contentsize for part in chosen]
        values = [part.value for part in chosen]
        for value in values:
            checksums.addPart(value)
        return b"".join(values), f"{etag}-{len(chosen)}", checksums.build()


class _Bucket(models.FakeBucket):
    def is_created(self) -> bool:
        return True


class _Backend(models.S3Backend):
    """Buckets of one store, always versioned, with IDs in B2's format."""

    min_part_size: int

    def create_bucket(self, bucket_name: str, *_: Any, **__: Any) -> models.FakeBucket:
        with _unregistered():
            bucket = _Bucket(bucket_name, self.account_id, self.region_name)
        models.s3_backends.bucket_accounts.pop(bucket_name, None)
        bucket.versioning_status = "Enabled"
        bucket.encryption = _ENCRYPTED
        self.buckets[bucket_name] = bucket
        return bucket

    def get_bucket(self, bucket_name: str) -> models.FakeBucket:
        try:
            return self.buckets[bucket_name]
        except KeyError:
            raise RefusedError(404, "NoSuchBucket", "The specified bucket does not exist") from None

    def put_object(self, bucket_name: str, *args: Any, **kwargs: Any) -> models.FakeKey:
        key = super().put_object(bucket_name, *args, **kwargs)
        # The ID of a finished large file is that of its upload. A copy of it has its own.
        upload = key.multipart
        if isinstance(upload, Upload) and not upload.completed:
            upload.completed = True
            key._version_id = upload.id
        else:
            key._version_id = new_id()
        return key

    def list_objects(
        self, bucket: models.FakeBucket, prefix: Any, delimiter: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """List keys and folders; moto also lists folders in which every file is hidden."""
        keys, folders, *rest = super().list_objects(bucket, prefix, delimiter, *args, **kwargs)
        if folders:
            visible = sorted(
                name
                for name, key in bucket.keys.items()
                if not isinstance(key, models.FakeDeleteMarker)
            )
            shown = [each for each in folders if _has_prefix(visible, each)]
            return keys, shown, *rest
        return keys, folders, *rest

    def _set_delete_marker(self, bucket_name: str, key_name: str) -> models.FakeDeleteMarker:
        marker = super()._set_delete_marker(bucket_name, key_name)
        marker._version_id = new_id()
        return marker

    def create_multipart_upload(
        self,
        bucket_name: str,
        key_name: str,
        metadata: Any,
        storage_type: str,
        tags: dict[str, str],
        acl: Any,
        sse_encryption: str,
        kms_key_id: str,
    ) -> Upload:
        upload = Upload(
            key_name,
            metadata,
            account_id=self.account_id,
            region_name=self.region_name,
            storage=storage_type,
            tags=tags,
            acl=acl,
            sse_encryption=sse_encryption,
        )
        upload.id = new_id()
        upload.initiated = datetime.now(UTC)
        upload.min_part_size = self.min_part_size
        self.get_bucket(bucket_name).multiparts[upload.id] = upload
        return upload


def _has_prefix(names: list[str], prefix: str) -> bool:
    """Whether one of the sorted names begins with the prefix."""
    first = bisect_left(names, prefix)
    return first < len(names) and names[first].startswith(prefix)


class MotoStore:
    """The buckets of one emulator. Only one thread at a time may use it."""

    def __init__(self, min_part_size: int) -> None:
        self.backend: _Backend = _Backend(_REGION, _ACCOUNT)
        self.backend.min_part_size = min_part_size
        backend = self.backend

        class MotoResponse(responses.S3Response):
            """moto's responses for this backend; permissions were checked before."""

            target: Target

            @property
            def backend(self) -> models.S3Backend:
                return backend

            def parse_bucket_name_from_url(self, request: Any, url: str) -> str:
                return self.target.bucket

            def parse_key_name(self) -> str:
                return self.target.key

            def _authenticate_and_authorize_s3_action(self, *_: Any, **__: Any) -> None:
                pass

        self._response = MotoResponse

    def has_bucket(self, name: str) -> bool:
        """Whether the bucket exists."""
        return name in self.backend.buckets

    def newest(self, bucket: str, key: str) -> Any:
        """Return moto's newest object or marker of a key; None if it has no versions."""
        return self.backend.get_bucket(bucket).keys.get(key)

    def find(self, bucket: str, key: str, version_id: str) -> Any:
        """Return moto's object or marker with this ID; None if there is none."""
        for version in self.backend.get_bucket(bucket).keys.getlist(key, []):
            if version.version_id == version_id:
                return version
        return None

    @staticmethod
    def is_marker(version: Any) -> bool:
        """Whether it is a delete marker."""
        return isinstance(version, models.FakeDeleteMarker)

    def set_public(self, bucket: str) -> None:
        """Make the bucket's objects public."""
        self.backend.get_bucket(bucket).set_acl(models.get_canned_acl("public-read"))

    def upload(self, bucket: str, key: str, upload_id: str) -> Upload | None:
        """Return the unfinished multipart upload of this key with this ID."""
        upload = self.backend.get_bucket(bucket).multiparts.get(upload_id)
        return upload if isinstance(upload, Upload) and upload.key_name == key else None

    def uploads(self, bucket: str) -> list[Upload]:
        """Return all unfinished multipart uploads, in the order of a listing."""
        found = self.backend.get_bucket(bucket).multiparts.values()
        running = [upload for upload in found if isinstance(upload, Upload)]
        return sorted(running, key=lambda upload: (upload.key_name.encode(), upload.initiated))

    def delete(
        self, bucket: str, key: str, version_id: str | None, *, bypass: bool = False
    ) -> dict[str, str]:
        """Hide a key, or erase a version; return the response's headers."""
        was = self.find(bucket, key, version_id) if version_id else None
        try:
            with _unregistered():
                _, found = self.backend.delete_object(
                    bucket, key, version_id=version_id, bypass=bypass
                )
        except S3ClientError as error:
            raise RefusedError(403, "AccessDenied", str(error)) from error
        found = {name: str(value) for name, value in found.items()}
        if isinstance(was, models.FakeDeleteMarker):
            found["delete-marker"] = "true"
        return {f"x-amz-{name}": value for name, value in found.items()}

    def ask(self, target: Target, method: str, headers: dict[str, str], body: bytes) -> B2Response:
        """Return moto's response."""
        sent = {name: value for name, value in headers.items() if name not in _HIDDEN}
        sent["authorization"] = _CREDENTIAL
        sent["content-length"] = str(len(body))
        request = Request.from_primitives(method, _moto_url(target), sent, body)
        response = self._response()
        response.target = target
        with _unregistered():
            handle = response.key_response if target.key else response.bucket_response
            status, given, content = handle(request, request.raw_url, dict(request.headers))
        content = content.encode() if isinstance(content, str) else bytes(content)
        # moto adds CORS headers to some responses, by rules of its own.
        kept = {
            name: str(value)
            for name, value in given.items()
            if not name.lower().startswith("access-control-")
        }
        return B2Response(status, kept, content)

    def stored(self, bucket: str) -> Iterator[MotoVersion]:
        """Yield all versions and delete markers, by key and then newest first."""
        keys = self.backend.get_bucket(bucket).keys
        for name in sorted(keys, key=str.encode):
            for at, version in enumerate(reversed(keys.getlist(name))):
                yield MotoVersion(version, at == 0, self.is_marker(version))

    def versions(self, bucket: str, key: str | None) -> list[StoredVersion]:
        """Describe all versions, by key and then newest first."""
        return [
            _described(version, is_latest=is_latest)
            for version, is_latest, _ in self.stored(bucket)
            if key in (None, version.name)
        ]

    def described_uploads(self, bucket: str | None) -> list[StoredUpload]:
        """Describe the unfinished multipart uploads, of one bucket or of all."""
        buckets = list(self.backend.buckets) if bucket is None else [bucket]
        return [
            StoredUpload(
                upload.key_name,
                upload.id,
                upload.initiated,
                {number: part.contentsize for number, part in sorted(upload.parts.items())},
            )
            for name in buckets
            for upload in self.uploads(name)
        ]

    def clear(self) -> None:
        """Remove all buckets."""
        self.backend.buckets.clear()


def new_id() -> str:
    """Return a file ID in B2's format, which its S3 API uses as version and upload IDs."""
    now = datetime.now(UTC)
    return (
        f"4_z{'004':0>24}_f2{secrets.token_hex(8)}_d{now:%Y%m%d}_m{now:%H%M%S}"
        f"_c004_v0402000_t0000_u{int(now.timestamp() * 1000):014d}"
    )


def _moto_url(target: Target) -> str:
    query = {name: value for name, value in target.query.items() if not name.startswith("X-Amz-")}
    path = f"/{quote(target.bucket)}/{quote(target.key)}"
    return f"http://s3.{_REGION}.amazonaws.com{path}" + (f"?{urlencode(query)}" if query else "")


def _described(version: Any, *, is_latest: bool) -> StoredVersion:
    if isinstance(version, models.FakeDeleteMarker):
        return StoredVersion(version.name, version.version_id, is_latest, is_delete_marker=True)
    metadata = {
        name.removeprefix("x-amz-meta-"): value
        for name, value in version.metadata.items()
        if name.startswith("x-amz-meta-")
    }
    return StoredVersion(
        version.name,
        version.version_id,
        is_latest,
        is_delete_marker=False,
        body=version.value,
        etag=version.etag.strip('"'),
        metadata=metadata,
    )


# moto keeps every instance of these alive until it clears them all, ours and others'.
_TRACKED: tuple[Any, ...] = (models.FakeKey, Upload, models.FakeDeleteMarker, _Bucket)
# All stores share these lists, each in a thread of its own. Reentrant: an operation has others.
_tracking = threading.RLock()


@contextmanager
def _unregistered() -> Iterator[None]:
    """Keep new objects out of the lists by which moto keeps them alive and clears them."""
    with _tracking:
        yield from _removing_new_ones()


def _removing_new_ones() -> Iterator[None]:
    tracked = [cls.instances_tracked for cls in _TRACKED]
    before = [len(instances) for instances in tracked]
    try:
        yield
    finally:
        for instances, count in zip(tracked, before, strict=True):
            for instance in instances[count:]:
                _keep_in_memory(instance)
            del instances[count:]


def _keep_in_memory(instance: Any) -> None:
    """Replace moto's temporary file of an object, of which moto warns, by memory."""
    if isinstance(instance, models.FakeKey) and not instance.disposed:
        buffer = io.BytesIO(instance.value)
        instance._value_buffer.close()
        setattr(instance, "_value_buffer", buffer)  # noqa: B010 - typed as what it must not be
        instance.disposed = True
