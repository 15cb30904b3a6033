"""What a copy is made of, as CopyObject and UploadPartCopy are told it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from careflow_storage._s3.headers.encryption import (
    copy_source_headers,
    key_headers,
    protection_parameters,
)
from careflow_storage.protection import Encryption


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

    def parameters(self, bucket: str) -> dict[str, Any]:
        """Return the parameters that name it, and the customer's key that it is read with."""
        named = {"Bucket": bucket, "Key": self.key}
        if self.version_id is not None:
            named["VersionId"] = self.version_id
        parameters: dict[str, Any] = {"CopySource": named}
        if self.version_id is None and self.etag is not None:
            parameters["CopySourceIfMatch"] = f'"{self.etag}"'
        customer = copy_source_headers(key_headers(self.encryption))
        return {**parameters, **protection_parameters(customer)}
