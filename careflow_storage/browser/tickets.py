"""Tickets: the state of an upload, signed and kept by the browser.

A ticket is JSON and its HMAC-SHA256 (RFC 2104), both in base64url. It is bound to one upload:
its key, size, type, upload ID and subject, and to the time. The server keeps no state, so any
process that has the secret serves the next request.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime

from careflow_storage.browser.errors import ExpiredTicketError, InvalidTicketError
from careflow_storage.errors import InvalidInputError

# The clocks of two servers may differ by this many seconds.
LEEWAY = 60
_VERSION = 1
_MIN_SECRET_BYTES = 16
_MAX_TICKET_CHARACTERS = 6144  # it goes into URLs, and servers accept 8 KiB
# Other signatures that the application makes with its secret are no tickets.
_PURPOSE = b"careflow-storage browser upload ticket"


@dataclass(frozen=True, slots=True)
class Ticket:
    """The content of a ticket.

    Attributes:
        key: The key that the upload is stored under.
        size: The exact size of the file in bytes.
        content_type: Its media type.
        upload_id: The multipart upload. None for one PUT, and where the page begins it itself.
        part_size: The size of all parts but the last, in bytes; 0 for one PUT.
        marker: The upload marker in the object's metadata, which identifies this upload.
        metadata: The object's metadata.
        subject: To whom the application issued it, or None.
        expires: When it ends, in seconds since the epoch.
    """

    key: str
    size: int
    content_type: str
    upload_id: str | None
    part_size: int
    marker: str
    metadata: dict[str, str]
    subject: str | None
    expires: int

    @property
    def expires_at(self) -> datetime:
        """When it ends, in UTC."""
        return datetime.fromtimestamp(self.expires, UTC)

    @property
    def part_count(self) -> int:
        """How many parts the file has; 1 for one PUT."""
        return -(-self.size // self.part_size) if self.part_size else 1

    def part_length(self, part: int | None) -> int:
        """Return the size of a part in bytes; raise `InvalidInputError` if there is no such."""
        count = self.part_count
        if type(part) is not int or not 1 <= part <= count:
            raise InvalidInputError(f"part must be a number from 1 to {count}, not {part!r}.")
        return min(self.part_size, self.size - (part - 1) * self.part_size)


class TicketSigner:
    """Signs and verifies tickets. The first secret signs; tickets of the others stay valid."""

    def __init__(self, secrets: str | bytes | Sequence[str | bytes]) -> None:
        listed = [secrets] if isinstance(secrets, str | bytes) else list(secrets)
        if not listed:
            raise InvalidInputError("secret: at least one is needed to sign tickets.")
        self._keys = [_derived_key(secret) for secret in listed]

    def issue(self, ticket: Ticket) -> str:
        """Return the ticket as text that is safe in URLs and headers.

        Raises:
            InvalidInputError: Its metadata or subject is too long.
        """
        payload = _encode(json.dumps([_VERSION, *astuple(ticket)], separators=(",", ":")).encode())
        text = f"{payload}.{_encode(_signature(self._keys[0], payload))}"
        if len(text) > _MAX_TICKET_CHARACTERS:
            raise InvalidInputError(
                f"The ticket has {len(text)} characters, and at most {_MAX_TICKET_CHARACTERS} fit "
                "into a URL.",
                hint="Use a shorter file name, subject, or less metadata.",
            )
        return text

    def verify(
        self,
        text: str,
        *,
        subject: str | None,
        now: datetime | None = None,
        allow_expired: bool = False,
    ) -> Ticket:
        """Return the content of a ticket.

        Args:
            subject: Who presents it. A ticket is valid for the subject it was issued to only.
            now: The time; by default the current one.
            allow_expired: Whether an expired ticket is valid, too.

        Raises:
            InvalidTicketError: It was not issued with one of the secrets, or not to ``subject``.
            ExpiredTicketError: It has expired.
        """
        ticket = self._read(text)
        if ticket.subject != subject:
            raise InvalidTicketError("The upload ticket was issued to another subject.")
        if not allow_expired and ticket.expires + LEEWAY <= (now or datetime.now(UTC)).timestamp():
            raise ExpiredTicketError(
                f"The upload ticket expired at {ticket.expires_at:%Y-%m-%d %H:%M:%S} UTC.",
                hint="Start the upload again. For slow uploads raise expires_in of UploadPolicy.",
            )
        return ticket

    def _read(self, text: object) -> Ticket:
        if not isinstance(text, str) or len(text) > _MAX_TICKET_CHARACTERS or not text.isascii():
            raise _invalid()
        payload, _, encoded = text.partition(".")
        signature = _decode(encoded)
        # Every key is tried, so that the time does not show which one it was.
        matches = [
            hmac.compare_digest(_signature(key, payload), signature or b"") for key in self._keys
        ]
        decoded = _decode(payload)
        if decoded is None or not any(matches):
            raise _invalid()
        version, *fields = json.loads(decoded)
        if version != _VERSION:
            raise _invalid()
        return Ticket(*fields)


def _derived_key(secret: str | bytes) -> bytes:
    if not isinstance(secret, str | bytes):
        raise InvalidInputError(f"secret must be str or bytes, not {type(secret).__name__}.")
    data = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
    if len(data) < _MIN_SECRET_BYTES:
        raise InvalidInputError(
            f"secret must have at least {_MIN_SECRET_BYTES} bytes.",
            hint="Make one with secrets.token_urlsafe(32).",
        )
    return hmac.digest(data, _PURPOSE, hashlib.sha256)


def _signature(key: bytes, payload: str) -> bytes:
    return hmac.digest(key, payload.encode(), hashlib.sha256)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes | None:
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    # Each ticket has one valid spelling.
    return data if _encode(data) == text else None


def _invalid() -> InvalidTicketError:
    return InvalidTicketError(
        "The upload ticket is not valid.",
        hint="It was issued with another secret, or changed.",
    )
