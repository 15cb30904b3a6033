"""What a copy keeps of its source, and what the caller sets instead."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from careflow_storage._s3.headers.encryption import lock_headers
from careflow_storage._s3.headers.kept import kept_headers
from careflow_storage._s3.headers.metadata import META_PREFIX, SOURCE_ETAG
from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage._transfer.upload.marker import MARKER_HEADER
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage.protection import Retention

SOURCE_ETAG_HEADER = f"{META_PREFIX}{SOURCE_ETAG}"


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """The options of one copy.

    Attributes:
        upload: What the caller sets, and how the bytes are sent.
        retention: ``"keep"`` keeps that of the source, if it has not ended.
        legal_hold: ``"keep"`` keeps that of the source.
        stamp: Whether the ETag of the source goes into the metadata of the copy.
    """

    upload: UploadOptions
    retention: Retention | Literal["keep"] | None = None
    legal_hold: bool | Literal["keep"] = False
    stamp: bool = False

    def checked(self, endpoint: str | None) -> dict[str, str]:
        """Return the headers that do not depend on the source, after checking all options.

        Raises:
            InvalidInputError: An option cannot be sent.
        """
        retention = None if self.retention == "keep" else self.retention
        legal_hold = False if self.legal_hold == "keep" else self.legal_hold
        return replace(self.upload, retention=retention, legal_hold=legal_hold).headers(endpoint)

    def headers(self, head: ObjectHead, endpoint: str | None) -> dict[str, str]:
        """Return the headers of the copy of this source."""
        kept = kept_headers(head, with_metadata=self.upload.metadata is None)
        # Of an earlier copy, and of the upload that stored the source.
        kept.pop(SOURCE_ETAG_HEADER, None)
        kept.pop(MARKER_HEADER, None)
        kept |= lock_headers(self._kept_retention(head), self._kept_hold(head))
        headers = {**kept, **self.checked(endpoint)}
        if self.stamp and head.file.etag:
            headers[SOURCE_ETAG_HEADER] = head.file.etag
        return headers

    def _kept_retention(self, head: ObjectHead) -> Retention | None:
        found = head.file.retention
        if self.retention != "keep" or found is None:
            return None
        # A server refuses a date in the past.
        return found if found.retain_until > datetime.now(UTC) else None

    def _kept_hold(self, head: ObjectHead) -> bool:
        return self.legal_hold == "keep" and head.file.legal_hold
