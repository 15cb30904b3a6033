"""The content of a bucket, read by another client, without the library and without faults."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree as ET

from careflow_storage._s3.signing.signer import Credentials
from careflow_storage.local.client import SyncClient, SyncResponse
from careflow_storage.settings import StorageSettings


@dataclass(frozen=True, slots=True)
class Kept:
    """One version, or one delete marker, of a key."""

    key: str
    version_id: str
    is_marker: bool
    is_latest: bool
    size: int = 0


class Bucket:
    """Looks into the bucket of these settings; blocking, a few milliseconds per request."""

    def __init__(self, settings: StorageSettings) -> None:
        assert settings.endpoint is not None
        assert settings.key_id is not None
        assert settings.application_key is not None
        secret = settings.application_key.get_secret_value()
        self._client = SyncClient(settings.endpoint, Credentials(settings.key_id, secret))
        self._name = str(settings.bucket_name)

    def create(self) -> None:
        """Make it, versioned as B2's are."""
        assert self._client.create_bucket(self._name).status == 200
        assert self._client.enable_versioning(self._name).status == 200

    def content(self, key: str, version_id: str | None = None) -> bytes | None:
        """The bytes under a key, None where there is nothing to see."""
        query = {} if version_id is None else {"versionId": version_id}
        response = self._client.request("GET", f"/{self._name}/{key}", query)
        if response.status in (404, 405):
            return None
        assert response.status == 200, response
        return response.body

    def put(self, key: str, body: bytes) -> str | None:
        """Store something without the library; return its version ID."""
        response = self._client.request("PUT", f"/{self._name}/{key}", body=body)
        assert response.status == 200, response
        return response.version_id

    def begin_upload(self, key: str) -> str:
        """Begin a multipart upload and leave it so, as a process that dies does."""
        response = self._client.request("POST", f"/{self._name}/{key}", {"uploads": ""})
        assert response.status == 200, response
        upload_id = _tree(response).findtext("UploadId")
        assert upload_id
        return upload_id

    def put_part(self, key: str, upload_id: str, number: int, body: bytes) -> None:
        """Store a part of an upload."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        response = self._client.request("PUT", f"/{self._name}/{key}", query, body)
        assert response.status == 200, response

    def abort(self, key: str, upload_id: str) -> None:
        """Drop an upload; one that is gone is no error."""
        self._client.request("DELETE", f"/{self._name}/{key}", {"uploadId": upload_id})

    def erase(self, key: str, version_id: str) -> None:
        """Erase a version or a delete marker."""
        self._client.request("DELETE", f"/{self._name}/{key}", {"versionId": version_id})

    def history(self, key: str | None = None, *, prefix: str = "") -> list[Kept]:
        """All versions and markers (of one key), as the server lists them: the newest first."""
        response = self._client.request(
            "GET", f"/{self._name}", {"versions": "", "prefix": key or prefix}
        )
        assert response.status == 200, response
        found = [
            Kept(
                entry.findtext("Key") or "",
                entry.findtext("VersionId") or "",
                entry.tag == "DeleteMarker",
                entry.findtext("IsLatest") == "true",
                int(entry.findtext("Size") or 0),
            )
            for entry in _tree(response)
            if entry.tag in ("Version", "DeleteMarker")
        ]
        return [kept for kept in found if key in (None, kept.key)]

    def counts(self, key: str) -> tuple[int, int]:
        """How many versions and how many delete markers a key has."""
        history = self.history(key)
        markers = sum(kept.is_marker for kept in history)
        return len(history) - markers, markers

    def unfinished(self) -> list[tuple[str, str]]:
        """Key and upload ID of each multipart upload that was neither completed nor aborted."""
        response = self._client.request("GET", f"/{self._name}", {"uploads": ""})
        assert response.status == 200, response
        return [
            (upload.findtext("Key") or "", upload.findtext("UploadId") or "")
            for upload in _tree(response).iter("Upload")
        ]


def _tree(response: SyncResponse) -> ET.Element:
    root = ET.fromstring(response.body)  # noqa: S314 - of the server that the tests have started
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root
