"""An object that is stored with one PUT."""

from __future__ import annotations

from collections.abc import Mapping

from careflow_storage._s3.headers.encryption import key_headers_of
from careflow_storage._s3.headers.objects import ObjectHead, StoreResult
from careflow_storage._transfer.bodies.parts import Part, PartSizes
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.progress import Meter
from careflow_storage._transfer.upload.marker import MARKER_HEADER, UploadMarker
from careflow_storage.errors import NotSupportedError, PreconditionFailedError, StorageError


async def put_object(
    context: TransferContext,
    key: str,
    part: Part,
    headers: dict[str, str],
    meter: Meter,
    *,
    payload_hash: str,
) -> StoreResult:
    """Store a part as a whole object, with one PUT. The caller releases the part."""
    part_meter = meter.part()
    stored = await context.requests.put_object(
        key, part.payload(), headers, payload_hash=payload_hash, on_sent=part_meter.reach
    )
    part_meter.reach(part.size)
    return stored


async def put_new_object(
    context: TransferContext,
    key: str,
    part: Part,
    headers: dict[str, str],
    meter: Meter,
    *,
    payload_hash: str,
) -> StoreResult:
    """Store a part as `put_object` does, if the key does not exist.

    A server without conditional writes replaces an existing object.

    Raises:
        PreconditionFailedError: Another writer has stored the key.
    """
    marked = _marked(headers, part)
    once = {**marked, "if-none-match": "*"}
    try:
        return await put_object(context, key, part, once, meter, payload_hash=payload_hash)
    except NotSupportedError:
        return await put_object(context, key, part, headers, meter, payload_hash=payload_hash)
    except PreconditionFailedError as error:
        head = await _stored_by_retry(context, key, error, marked)
    if head.file.size == part.size:
        return StoreResult(head.file.etag, head.file.version_id, {})
    # The server has kept the beginning, which arrived before the connection broke.
    return await put_object(context, key, part, marked, meter, payload_hash=payload_hash)


async def replace_cut_off(
    context: TransferContext,
    key: str,
    part: Part,
    headers: dict[str, str],
    meter: Meter,
    *,
    payload_hash: str,
) -> StoreResult:
    """Store a part as `put_object` does, in place of its beginning (see `is_cut_off`)."""
    marked = _marked(headers, part)
    return await put_object(context, key, part, marked, meter, payload_hash=payload_hash)


def _marked(headers: Mapping[str, str], part: Part) -> dict[str, str]:
    """Return the headers with a marker, which identifies the PUT and has the size of its body."""
    return {**headers, MARKER_HEADER: str(UploadMarker.new(PartSizes(part.size, part.size)))}


async def _stored_by_retry(
    context: TransferContext,
    key: str,
    refusal: PreconditionFailedError,
    marked: Mapping[str, str],
) -> ObjectHead:
    """Return the object if this PUT stored it, whole or in part, and its response was lost.

    Raises:
        PreconditionFailedError: Another writer stored it.
    """
    try:
        head = await context.requests.head_object(key, headers=key_headers_of(marked))
    except StorageError as second:
        # The key was taken when the server refused; report that.
        refusal.add_note(f"What is stored under the key is unknown: {second}")
        raise refusal from second
    if head.upload_marker != marked[MARKER_HEADER]:
        raise refusal
    return head
