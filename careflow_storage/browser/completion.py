"""The end of an upload: completed, if the bucket holds what the ticket announced, or aborted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from careflow_storage._s3.headers.objects import ObjectHead, StoreResult
from careflow_storage._s3.requests.parts import ListedPart, latest_parts
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.upload.result import upload_result
from careflow_storage.browser.checks import check_parts
from careflow_storage.browser.errors import UploadIncompleteError, UploadMismatchError
from careflow_storage.browser.models import UploadedPart
from careflow_storage.browser.tickets import Ticket
from careflow_storage.errors import (
    AccessDeniedError,
    NoSuchKeyError,
    NoSuchUploadError,
    StorageError,
)
from careflow_storage.models import Checksum, UploadResult

_ABORT_ROUNDS = 3


async def complete_parts(
    context: TransferContext,
    ticket: Ticket,
    upload_id: str,
    reported: list[UploadedPart] | None,
) -> None:
    """Complete a multipart upload, if it is there and its parts are right."""
    multipart = context.multipart
    # Completed before or aborted: the object's marker decides which.
    with contextlib.suppress(NoSuchUploadError):
        held = _chosen(await multipart.list_parts(ticket.key, upload_id), reported or ())
        check_parts(ticket, held, reported)
        try:
            await multipart.complete(ticket.key, upload_id, _etags(held), "md5")
        except StorageError as error:
            if error.code != "InvalidPart":
                raise
            raise UploadIncompleteError(
                "A part was sent again while the upload was completed.",
                key=ticket.key,
                hint="Complete the upload again.",
            ) from error


async def abort_parts(context: TransferContext, ticket: Ticket, upload_id: str) -> None:
    """Abort a multipart upload, if it is there."""
    # A part in flight can be stored after the abort. Only NoSuchUpload proves that none was.
    for _ in range(_ABORT_ROUNDS):
        try:
            await context.multipart.abort(ticket.key, upload_id)
        except NoSuchUploadError:
            return


async def stored_object(context: TransferContext, ticket: Ticket) -> ObjectHead | None:
    """Return the object if it is that of this ticket; erase it if it does not fit."""
    requests = context.requests
    try:
        head = await requests.head_object(ticket.key)
    except NoSuchKeyError:
        return None
    if head.upload_marker != ticket.marker:
        return None
    file = head.file
    if (file.size, file.content_type) == (ticket.size, ticket.content_type):
        return head
    hint = "Start the upload again."
    try:
        await requests.delete_object(ticket.key, version_id=file.version_id)
    except AccessDeniedError:
        hint = "The key may not delete it: delete it yourself."
    raise UploadMismatchError(
        f"The stored file has {file.size} bytes of type {file.content_type!r}, not "
        f"{ticket.size} of {ticket.content_type!r}.",
        key=ticket.key,
        hint=hint,
    )


def result_of(context: TransferContext, ticket: Ticket, found: ObjectHead) -> UploadResult:
    """Describe the stored object."""
    file, parts = found.file, ticket.part_count
    digest, hyphen, _ = file.etag.partition("-")
    return upload_result(
        context,
        file.key,
        StoreResult(file.etag, file.version_id, found.headers),
        size=file.size,
        parts=parts,
        content_type=file.content_type,
        checksum=Checksum(algorithm="md5", value=digest, parts=parts if hyphen else None),
    )


def _chosen(parts: Sequence[ListedPart], reported: Iterable[UploadedPart]) -> list[ListedPart]:
    """Return one part for each number: the reported one, else the one that was sent last.

    S3 keeps only the last. SeaweedFS keeps each, and completes with the one whose ETag it is given.
    """
    chosen = {part.number: part for part in latest_parts(parts)}
    sent = {(part.number, part.etag.strip('"')) for part in reported}
    chosen |= {part.number: part for part in parts if (part.number, part.etag) in sent}
    return [chosen[number] for number in sorted(chosen)]


def _etags(parts: Sequence[ListedPart]) -> list[tuple[str, bytes]]:
    return [(part.etag, b"") for part in parts]
