"""The broker: issues tickets, signs requests, and completes uploads after checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from careflow_storage._s3.requests.parts import latest_parts
from careflow_storage._transfer.bodies.parts import PartSizes
from careflow_storage._transfer.upload.marker import MARKER_HEADER, UploadMarker
from careflow_storage._transfer.upload.multipart import MultipartUpload
from careflow_storage.browser.completion import (
    abort_parts,
    complete_parts,
    result_of,
    stored_object,
)
from careflow_storage.browser.errors import UploadIncompleteError
from careflow_storage.browser.models import BrowserUpload, UploadedPart
from careflow_storage.browser.policy import MAX_PUT_BYTES, UploadPolicy
from careflow_storage.browser.requests import RequestMethod, UploadRequests
from careflow_storage.browser.tickets import Ticket, TicketSigner
from careflow_storage.errors import InvalidInputError, NoSuchUploadError
from careflow_storage.models import SignedRequest, UploadResult
from careflow_storage.recordings import RecordingClock, recording_key
from careflow_storage.storage import BackblazeStorage


class BrowserUploads:
    """Lets browsers upload recordings straight to the bucket.

    The server chooses the key, and binds it with the size, the type and the time into a signed
    ticket. The holder of the ticket may upload this one file. The broker keeps no state: all
    processes with the same secret serve the same uploads.

    Args:
        storage: An open storage.
        secret: Signs the tickets: 16 bytes or more. Of several, the first signs, and tickets of
            the others stay valid, so that the secret can be replaced.
        policy: What may be uploaded; by default ``UploadPolicy()``.

    Raises:
        InvalidInputError: A secret is too short.
    """

    def __init__(
        self,
        storage: BackblazeStorage,
        *,
        secret: str | bytes | Sequence[str | bytes],
        policy: UploadPolicy | None = None,
    ) -> None:
        self._storage = storage
        self._signer = TicketSigner(secret)
        self._clock = RecordingClock()
        self.policy: UploadPolicy = policy or UploadPolicy()
        self._requests = UploadRequests(storage, self.policy)

    async def create(
        self,
        call_id: str,
        filename: str,
        *,
        content_type: str,
        size: int,
        subject: str | None = None,
        multipart: bool | None = None,
        begun_by_page: bool = False,
        metadata: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> BrowserUpload:
        """Create an upload. No request for one PUT, 1 request for an upload in parts.

        Args:
            call_id: The call, whose folder the file goes to.
            filename: The file's name, without a path.
            content_type: The media type that the file is stored as.
            size: The exact size of the file in bytes.
            subject: Who uploads, for example the ID of the signed-in user. The ticket is then
                valid for this subject only.
            multipart: Whether the file goes in parts; by default when it is larger than the
                policy's ``multipart_threshold``.
            begun_by_page: Whether the page itself begins and completes the multipart upload,
                with requests of `sign_request`, as Uppy 6 does. Sends no request then.
            metadata: Metadata of the stored file, as for `BackblazeStorage.upload_file`.
            timeout: Seconds for the request.

        Raises:
            InvalidInputError: A name or the metadata cannot be used, or the size is invalid.
            FileTooLargeError: The policy allows no file of this size.
            FileTypeError: The policy allows no file of this type.
        """
        now = datetime.now(UTC)
        async with self._storage._call("BrowserUploads.create", timeout=timeout):
            self.policy.check(size=size, content_type=content_type)
            key = recording_key(call_id, filename, self._clock.epoch_ms(now))
            in_parts = size > self.policy.multipart_threshold if multipart is None else multipart
            if in_parts and not size:
                raise InvalidInputError("An empty file has no parts: upload it with one PUT.")
            if not in_parts and size > MAX_PUT_BYTES:
                raise InvalidInputError(f"One PUT takes {MAX_PUT_BYTES} bytes at most.")
            part_size = self.policy.part_size_of(size) if in_parts else 0
            ticket = Ticket(
                key=key,
                size=size,
                content_type=content_type,
                upload_id=None,
                part_size=part_size,
                marker=str(UploadMarker.new(PartSizes(part_size or max(size, 1), 0))),
                metadata=dict(metadata or {}),
                subject=_checked_subject(subject),
                expires=int(now.timestamp()) + self.policy.expires_in,
            )
            self._requests.object_headers(ticket)  # refuses wrong metadata before any request
            text = self._signer.issue(ticket)
            if in_parts and not begun_by_page:
                text = await self._begin(ticket)
        return BrowserUpload(
            key=key,
            ticket=text,
            size=size,
            content_type=content_type,
            multipart=in_parts,
            part_size=part_size or size,
            part_count=ticket.part_count,
            expires_at=ticket.expires_at,
        )

    async def sign(
        self, ticket: str, part: int | None = None, *, subject: str | None = None
    ) -> SignedRequest:
        """Sign the PUT of the file, or of one of its parts. Sends no request.

        The signature binds the size, and for one PUT the type and the metadata, too: the server
        refuses anything else with 403. The same request may be signed as often as needed.

        Args:
            ticket: The ticket of the upload.
            part: The number of the part, from 1; None for an upload that is one PUT.
            subject: Who presents the ticket.

        Raises:
            InvalidTicketError: The ticket is not valid, or belongs to another subject.
            ExpiredTicketError: The ticket has expired.
            InvalidInputError: The upload has no such part.
        """
        with self._storage._call("BrowserUploads.sign"):
            valid = self._signer.verify(ticket, subject=subject)
            if valid.part_size and valid.upload_id is None:
                raise InvalidInputError("The page begins this upload: use sign_request().")
            return await self._requests.put(valid, valid.upload_id, part)

    async def sign_request(
        self,
        ticket: str,
        method: RequestMethod,
        *,
        upload_id: str | None = None,
        part: int | None = None,
        subject: str | None = None,
    ) -> SignedRequest:
        """Sign one request of a page that speaks S3 itself, as Uppy 6 does. Sends no request.

        ========  ===========  ====  ===========================
        method    upload_id    part  request
        ========  ===========  ====  ===========================
        PUT                          PutObject
        POST                         CreateMultipartUpload
        PUT       given        n     UploadPart
        GET       given              ListParts
        POST      given              CompleteMultipartUpload
        DELETE    given              AbortMultipartUpload
        ========  ===========  ====  ===========================

        All are requests for the key of the ticket. The type, the metadata and each part's size
        are bound. `complete` must follow: a page may complete less than it announced.

        Args:
            ticket: The ticket of the upload, created with ``begun_by_page=True`` or one PUT.
            method: The HTTP method.
            upload_id: The ID that the bucket gave to the page.
            part: The number of the part, from 1.
            subject: Who presents the ticket.

        Raises:
            InvalidTicketError: The ticket is not valid, or belongs to another subject.
            ExpiredTicketError: The ticket has expired.
            InvalidInputError: The upload has no such request.
        """
        with self._storage._call("BrowserUploads.sign_request"):
            valid = self._signer.verify(ticket, subject=subject)
            if not valid.part_size:
                if method != "PUT" or upload_id is not None:
                    raise InvalidInputError("This upload is one PUT.")
                return await self._requests.put(valid, None, part)
            if valid.upload_id is not None:
                raise InvalidInputError("The server begins and ends this upload: use sign().")
            return await self._requests.multipart(valid, method, upload_id, part)

    async def list_parts(
        self, ticket: str, *, subject: str | None = None, timeout: float | None = None
    ) -> list[UploadedPart]:
        """List the parts that the bucket holds, by number. 1 request per 1000 parts.

        A part of a wrong size is not listed, so that the browser sends it again.

        Raises:
            InvalidTicketError: The ticket is not valid, or belongs to another subject.
            ExpiredTicketError: The ticket has expired.
            InvalidInputError: The upload has no parts, or the page begins it.
            NoSuchUploadError: The upload was completed or aborted.
        """
        async with self._storage._call("BrowserUploads.list_parts", timeout=timeout):
            valid = self._signer.verify(ticket, subject=subject)
            if valid.upload_id is None:
                raise InvalidInputError("The server holds no multipart upload of this ticket.")
            multipart = self._storage._context().multipart
            held = latest_parts(await multipart.list_parts(valid.key, valid.upload_id))
        return [
            UploadedPart(number=part.number, size=part.size, etag=part.etag)
            for part in held
            if part.number <= valid.part_count and part.size == valid.part_length(part.number)
        ]

    async def complete(
        self,
        ticket: str,
        parts: Iterable[UploadedPart] | None = None,
        *,
        subject: str | None = None,
        timeout: float | None = None,
    ) -> UploadResult:
        """Complete the upload, after checking what the bucket holds. 1 to 3 requests.

        The file counts as stored when this returns. Safe to repeat: for a completed upload it
        returns the result again.

        Args:
            ticket: The ticket of the upload.
            parts: The parts as the browser reports them, in any order. Their ETags must be those
                that the bucket holds.
            subject: Who presents the ticket.
            timeout: Seconds for all requests together.

        Raises:
            InvalidTicketError: The ticket is not valid, or belongs to another subject.
            ExpiredTicketError: The ticket has expired.
            UploadIncompleteError: Parts are missing, have the wrong size, or are not those that
                the browser reported. They can be sent again.
            UploadMismatchError: The stored file has another size or type. It was erased.
            NoSuchUploadError: The upload was aborted.
        """
        async with self._storage._call("BrowserUploads.complete", timeout=timeout):
            valid = self._signer.verify(ticket, subject=subject)
            context = self._storage._context()
            reported = None if parts is None else list(parts)
            if valid.upload_id is not None:
                await complete_parts(context, valid, valid.upload_id, reported)
            found = await stored_object(context, valid)
            if found is None and valid.upload_id is not None:
                raise NoSuchUploadError(
                    "The upload was aborted.", key=valid.key, hint="Start the upload again."
                )
            if found is None:
                raise UploadIncompleteError(
                    "The file has not been uploaded.",
                    key=valid.key,
                    hint="Complete the upload after the last request to the bucket has succeeded.",
                )
            return result_of(context, valid, found)

    async def abort(
        self, ticket: str, *, subject: str | None = None, timeout: float | None = None
    ) -> None:
        """Abort the upload and drop its parts. Safe to repeat. 2 requests.

        One request more for an upload that a page begins itself. An expired ticket may still abort
        its upload. A completed file stays: delete it with `BackblazeStorage.delete_file`.

        Raises:
            InvalidTicketError: The ticket is not valid, or belongs to another subject.
        """
        async with self._storage._call("BrowserUploads.abort", timeout=timeout):
            valid = self._signer.verify(ticket, subject=subject, allow_expired=True)
            context = self._storage._context()
            if valid.upload_id is not None:
                upload_ids = [valid.upload_id]
            elif valid.part_size:
                found = await context.control.list_incomplete(valid.key)
                upload_ids = [each.upload_id for each in found if each.key == valid.key]
            else:
                upload_ids = []
            for upload_id in upload_ids:
                await abort_parts(context, valid, upload_id)

    async def _begin(self, ticket: Ticket) -> str:
        """Begin the multipart upload; return the ticket with its ID. A failure leaves none."""
        context = self._storage._context()
        headers = self._requests.object_headers(ticket)
        sizes = PartSizes(ticket.part_size, 0)
        upload = MultipartUpload(context, ticket.key, headers, sizes, algorithm="md5")
        try:
            await upload.begin()
            return self._signer.issue(
                replace(ticket, upload_id=upload.upload_id, marker=upload.headers[MARKER_HEADER])
            )
        except BaseException as error:
            await upload.abandon(error)
            raise
        finally:
            # The browser continues it from here on.
            context.living.discard(upload.upload_id or "")


def _checked_subject(subject: object) -> str | None:
    if subject is None or (isinstance(subject, str) and subject):
        return subject
    raise InvalidInputError(f"subject must be a str that is not empty, not {subject!r}.")
