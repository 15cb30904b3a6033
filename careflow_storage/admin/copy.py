"""Copies and moves within the bucket, made by the server."""

from __future__ import annotations

from collections.abc import Mapping

from careflow_storage._s3.control_plane import CopySource
from careflow_storage._s3.headers.encryption import encryption_headers, key_headers
from careflow_storage._s3.headers.metadata import (
    META_PREFIX,
    decode_metadata,
    encode_metadata,
    is_header_value,
)
from careflow_storage._s3.objects import ObjectHead
from careflow_storage._s3.versions import checked_version_id
from careflow_storage._transfer.bodies.checksums import is_md5
from careflow_storage._transfer.bodies.parts import PartSizes
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.copy import PARTIAL_HEADER, Copied, copy
from careflow_storage._transfer.upload.marker import MARK_HEADER, UploadMarker
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage.errors import (
    ChecksumMismatchError,
    InvalidInputError,
    NoSuchKeyError,
    PreconditionFailedError,
    SizeMismatchError,
    StorageError,
)
from careflow_storage.models import Model
from careflow_storage.protection import CustomerKey, Encryption, check_encryption

_TAKEN_OVER = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)
# What B2 takes of metadata where it encrypts, as all new buckets do: "Add File Information".
_MAX_METADATA_BYTES = 2048


class CopyResult(Model):
    """A copy that the server has confirmed. ``size`` is in bytes, ``parts`` is 1 up to 5 GB."""

    source: str
    source_version_id: str | None
    key: str
    size: int
    etag: str
    version_id: str | None
    parts: int


async def copy_file(
    context: TransferContext,
    source: str,
    target: str,
    *,
    version_id: str | None = None,
    content_type: str | None = None,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = True,
    source_encryption: Encryption | None = None,
    encryption: Encryption | None = None,
) -> CopyResult:
    if version_id is not None:
        version_id = checked_version_id(version_id)
    _check_encryption(context, source_encryption=source_encryption, encryption=encryption)
    anew = UploadOptions(content_type=content_type, metadata=metadata).headers()
    anew |= encryption_headers(encryption)
    if source == target and version_id is None and not anew and metadata is None:
        raise InvalidInputError(
            "A file cannot be copied onto itself without a change.",
            hint="Give a version_id to put an old version on top, or what shall be new.",
        )
    head = await _head(context, source, version_id, source_encryption)
    headers = {**_taken_over(head, with_metadata=metadata is None), **anew}
    return await _copy_version(
        context,
        head,
        target,
        headers,
        overwrite,
        version_id=version_id,
        source_encryption=source_encryption,
        encryption=encryption,
    )


async def move_file(
    context: TransferContext,
    source: str,
    target: str,
    *,
    overwrite: bool,
    encryption: Encryption | None = None,
) -> CopyResult:
    _check_encryption(context, encryption=encryption)
    if source == target:
        raise InvalidInputError("A file cannot be moved onto itself.")
    head = await _head(context, source, None, encryption)
    headers = {**_taken_over(head, with_metadata=True), **encryption_headers(encryption)}
    copied = await _copy_version(
        context,
        head,
        target,
        headers,
        overwrite,
        source_encryption=encryption,
        encryption=encryption,
    )
    before = head.file
    try:
        now = (await _head(context, source, None, encryption)).file
        if (now.version_id, now.etag) != (before.version_id, before.etag):
            raise PreconditionFailedError(
                "The source was overwritten while it was copied: it was not hidden.",
                key=source,
            )
        await context.requests.delete_object(source)
    except StorageError as error:
        made = f"The copy exists, as {target!r} (version {copied.version_id})."
        error.hint = f"{made} {error.hint}" if error.hint else made
        raise
    return copied


async def _copy_version(
    context: TransferContext,
    head: ObjectHead,
    target: str,
    headers: Mapping[str, str],
    overwrite: bool,
    *,
    version_id: str | None = None,
    source_encryption: Encryption | None = None,
    encryption: Encryption | None = None,
) -> CopyResult:
    """Copy the very version that ``head`` is about, and verify it."""
    file = head.file
    if not overwrite and await context.requests.object_exists(target):
        raise PreconditionFailedError(
            "The key exists already.", operation="HeadObject", key=target, status=412
        )
    pinned = version_id or file.version_id
    source = CopySource(file.key, pinned, file.size, file.etag, source_encryption)
    try:
        copied = await copy(
            context,
            source,
            target,
            headers,
            marker=_marker(head, headers),
            # B2 implements no conditional writes.
            unless_exists=not overwrite and not context.settings.is_b2,
        )
    except NoSuchKeyError as error:
        # The request was about the target; it is the source that is gone meanwhile.
        error.key = file.key
        raise
    await _verify(context, head, target, copied, encryption)
    return CopyResult(
        source=file.key,
        source_version_id=file.version_id,
        key=target,
        size=file.size,
        etag=copied.stored.etag,
        version_id=copied.stored.version_id,
        parts=copied.parts,
    )


def _taken_over(head: ObjectHead, *, with_metadata: bool) -> dict[str, str]:
    """The headers of the source that its copy keeps."""
    headers: dict[str, str] = {}
    for raw_name, value in head.headers.items():
        name = raw_name.lower()
        if name == PARTIAL_HEADER or (with_metadata and name.startswith(META_PREFIX)):
            headers |= _metadata_header(name, value)
        elif name in _TAKEN_OVER and is_header_value(value):
            headers[name] = value
    return headers


def _metadata_header(name: str, value: str) -> dict[str, str]:
    # As it is, if it can be sent so: other writers' names and encodings are theirs.
    if is_header_value(value):
        return {name: value}
    return encode_metadata(decode_metadata({name: value}))


def _marker(head: ObjectHead, headers: Mapping[str, str]) -> UploadMarker | None:
    """A mark of its own for the copy, if the server has room for it.

    It tells the sizes of the source's parts on: most servers keep the ETag that is made of them,
    and by both a download is verified. Without parts there are no sizes, told as 0.
    """
    known = UploadMarker.parse(head.upload_mark) if "-" in head.file.etag else None
    marker = UploadMarker.new(known.sizes if known else PartSizes(0, 0))
    sent = {**headers, MARK_HEADER: str(marker)}
    total = sum(
        len(name) - len(META_PREFIX) + len(value)
        for name, value in sent.items()
        if name.startswith(META_PREFIX)
    )
    return marker if total <= _MAX_METADATA_BYTES else None


async def _verify(
    context: TransferContext,
    source: ObjectHead,
    target: str,
    copied: Copied,
    encryption: Encryption | None,
) -> None:
    """Hold the copy to its source: by the ETag, else by a HEAD of it.

    Raises:
        SizeMismatchError: The copy has another size.
        ChecksumMismatchError: Both ETags are MD5s, and differ.
    """
    if copied.stored.etag == source.file.etag:
        return
    made = await _head(context, target, copied.stored.version_id, encryption)
    where = f"The copy (version {copied.stored.version_id}) is not what was copied"
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


def _check_encryption(context: TransferContext, **given: Encryption | None) -> None:
    for name, encryption in given.items():
        if encryption not in (None, "SSE-B2") and not isinstance(encryption, CustomerKey):
            # Its value is not shown: it may be a key in another form.
            raise InvalidInputError(
                f"{name} must be 'SSE-B2' or a CustomerKey, not {type(encryption).__name__}."
            )
        check_encryption(encryption, context.settings.endpoint)


async def _head(
    context: TransferContext, key: str, version_id: str | None, encryption: Encryption | None
) -> ObjectHead:
    return await context.requests.head_object(
        key, version_id=version_id, headers=key_headers(encryption)
    )
