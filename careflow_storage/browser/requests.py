"""The presigned requests of an upload, bound to its ticket."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Literal

from careflow_storage._s3.requests.presign import Grant, presign_one
from careflow_storage._transfer.upload.marker import MARKER_HEADER
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage.browser.policy import UploadPolicy
from careflow_storage.browser.tickets import LEEWAY, Ticket
from careflow_storage.errors import InvalidInputError
from careflow_storage.models import SignedRequest
from careflow_storage.storage import BackblazeStorage

_LONGEST_UPLOAD_ID = 1024

RequestMethod = Literal["PUT", "POST", "GET", "DELETE"]
"""A method of the S3 requests that a browser sends."""


class UploadRequests:
    """Signs the requests of uploads. Sends none."""

    def __init__(self, storage: BackblazeStorage, policy: UploadPolicy) -> None:
        self._storage = storage
        self._policy = policy

    def object_headers(self, ticket: Ticket) -> dict[str, str]:
        """Return the headers that determine how the object is stored."""
        options = UploadOptions(content_type=ticket.content_type, metadata=ticket.metadata)
        headers = options.headers(self._storage.settings.endpoint)
        return headers | {MARKER_HEADER: ticket.marker}

    async def put(self, ticket: Ticket, upload_id: str | None, part: int | None) -> SignedRequest:
        """Sign the PUT of the file, or of a part."""
        if upload_id is not None:
            params = {"partNumber": str(part), "uploadId": upload_id}
            return await self._signed(ticket, "PUT", params, {}, ticket.part_length(part))
        if part is not None:
            raise InvalidInputError("This upload is one PUT: it has no parts.")
        return await self._signed(ticket, "PUT", {}, self.object_headers(ticket), ticket.size)

    async def multipart(
        self, ticket: Ticket, method: RequestMethod, upload_id: str | None, part: int | None
    ) -> SignedRequest:
        """Sign a request of a multipart upload that the page begins."""
        if upload_id is not None:
            _check_upload_id(upload_id)
        if method == "PUT" and upload_id is not None:
            return await self.put(ticket, upload_id, part)
        if part is not None or method not in ("POST", "GET", "DELETE"):
            raise InvalidInputError(f"An upload in parts has no such {method!r} request.")
        if upload_id is not None:
            return await self._signed(ticket, method, {"uploadId": upload_id}, {})
        if method != "POST":
            raise InvalidInputError(f"{method} needs upload_id.")
        return await self._signed(ticket, "POST", {"uploads": ""}, self.object_headers(ticket))

    async def _signed(
        self,
        ticket: Ticket,
        method: RequestMethod,
        params: dict[str, str],
        headers: dict[str, str],
        length: int | None = None,
    ) -> SignedRequest:
        # Browsers set Content-Length themselves: it is signed, and not among the headers.
        signed = headers if length is None else {**headers, "content-length": str(length)}
        left = ticket.expires + LEEWAY - datetime.now(UTC).timestamp()
        seconds = min(self._policy.url_expires_in, max(1, math.ceil(left)))
        session = self._storage._context().session
        url, expires_at = await presign_one(
            session, ticket.key, Grant(method, seconds, params, signed)
        )
        return SignedRequest(method=method, url=url, headers=headers, expires_at=expires_at)


def _check_upload_id(upload_id: object) -> None:
    good = isinstance(upload_id, str) and upload_id.isascii() and upload_id.isprintable()
    if not good or not 1 <= len(str(upload_id)) <= _LONGEST_UPLOAD_ID:
        raise InvalidInputError(
            f"upload_id must be 1 to {_LONGEST_UPLOAD_ID} printable ASCII characters."
        )
