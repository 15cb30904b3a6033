"""The upload marker of a copy that the server makes, and its verification."""

from __future__ import annotations

from collections.abc import Mapping

from careflow_storage._s3.headers.encryption import key_headers
from careflow_storage._s3.headers.metadata import META_PREFIX
from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage._transfer.bodies.checksums import is_md5
from careflow_storage._transfer.bodies.parts import PartSizes
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.copy import Copied
from careflow_storage._transfer.upload.marker import MARKER_HEADER, UploadMarker
from careflow_storage.errors import ChecksumMismatchError, SizeMismatchError
from careflow_storage.protection import Encryption

# The limit of B2's "Add File Information" in buckets that encrypt, as all new ones do.
_MAX_METADATA_BYTES = 2048


def copy_marker(head: ObjectHead, headers: Mapping[str, str]) -> UploadMarker | None:
    """Make an upload marker for the copy; None if the server has no room for it.

    It repeats the part sizes of the source. Most servers keep the ETag made of these parts, and
    downloads are verified by both. Without parts the sizes are 0.
    """
    known = UploadMarker.parse(head.upload_marker) if "-" in head.file.etag else None
    marker = UploadMarker.new(known.sizes if known else PartSizes(0, 0))
    sent = {**headers, MARKER_HEADER: str(marker)}
    total = sum(
        len(name) - len(META_PREFIX) + len(value)
        for name, value in sent.items()
        if name.startswith(META_PREFIX)
    )
    return marker if total <= _MAX_METADATA_BYTES else None


async def verify_copy(
    context: TransferContext,
    source: ObjectHead,
    target: str,
    copied: Copied,
    encryption: Encryption | None,
) -> None:
    """Compare the copy with its source: by the ETag, or else by a HEAD.

    Raises:
        SizeMismatchError: The copy has another size.
        ChecksumMismatchError: Both ETags are MD5s, and differ.
    """
    if copied.stored.etag == source.file.etag:
        return
    made = await context.requests.head_object(
        target, version_id=copied.stored.version_id, headers=key_headers(encryption)
    )
    where = f"The copy (version {copied.stored.version_id}) differs from the source"
    if made.file.size != source.file.size:
        raise SizeMismatchError(
            f"{where}: it has {made.file.size} bytes, not {source.file.size}.",
            key=target,
        )
    md5s = is_md5(source.file.etag, source.headers) and is_md5(made.file.etag, made.headers)
    if md5s and made.file.etag != source.file.etag:
        raise ChecksumMismatchError(
            f"{where}: its MD5 differs.",
            key=target,
            hint="Copy again."
            if copied.stored.version_id is None
            else f"Copy again; delete_file({target!r}, version_id={copied.stored.version_id!r}) "
            "erases that version.",
        )
