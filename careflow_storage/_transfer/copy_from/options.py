"""What a copy keeps of its source, and what the caller sets instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

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
        keep_retention: Whether to keep the retention of the source, if it has not ended.
        keep_legal_hold: Whether to keep the legal hold of the source.
        stamp: Whether the ETag of the source goes into the metadata of the copy.
    """

    upload: UploadOptions
    keep_retention: bool = False
    keep_legal_hold: bool = False
    stamp: bool = False

    def headers(self, head: ObjectHead, given: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of the copy of this source; ``given`` are those of ``upload``."""
        headers = kept_headers(head, with_metadata=self.upload.metadata is None)
        # Of an earlier copy, and of the upload that stored the source.
        headers.pop(SOURCE_ETAG_HEADER, None)
        headers.pop(MARKER_HEADER, None)
        headers |= lock_headers(self._kept_retention(head), self._kept_hold(head))
        headers |= given
        if self.stamp and head.file.etag:
            headers[SOURCE_ETAG_HEADER] = head.file.etag
        return headers

    def _kept_retention(self, head: ObjectHead) -> Retention | None:
        found = head.file.retention
        if not self.keep_retention or found is None:
            return None
        # A server refuses a date in the past.
        return found if found.retain_until > datetime.now(UTC) else None

    def _kept_hold(self, head: ObjectHead) -> bool:
        return self.keep_legal_hold and head.file.legal_hold
