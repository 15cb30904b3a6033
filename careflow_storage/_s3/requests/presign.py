"""Presigned URLs: permission for one request, for anyone who has the URL, until it expires."""

from __future__ import annotations

import asyncio
import logging
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

from careflow_storage._log_fields import log_fields
from careflow_storage._s3.headers.encryption import encryption_headers
from careflow_storage._s3.headers.metadata import is_header_value
from careflow_storage._s3.session import S3Session
from careflow_storage._s3.signing.signer import MAX_EXPIRES_IN, Credentials, encode_key
from careflow_storage.errors import InvalidInputError
from careflow_storage.protection import Encryption
from careflow_storage.recordings import check_filename

logger = logging.getLogger("careflow_storage")

_URLS_PER_TURN = 500
# The longest session of an Amazon role; a token does not contain its expiry.
_LONGEST_ROLE = timedelta(hours=12)

SignedMethod = Literal["GET", "PUT", "HEAD", "DELETE"]
"""A method that a presigned URL can allow."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a presigned URL allows, checked; signing is then the same for every key."""

    method: SignedMethod | Literal["POST"]
    expires_in: int
    params: dict[str, str]
    headers: dict[str, str] = field(repr=False)

    @classmethod
    def checked(
        cls,
        expires_in: int,
        method: SignedMethod,
        *,
        download_as: str | None = None,
        content_type: str | None = None,
        version_id: str | None = None,
        encryption: Encryption | None = None,
    ) -> Grant:
        """Refuse what no server would honour, before a URL is handed out."""
        if method not in get_args(SignedMethod):
            raise InvalidInputError(
                f"method must be one of {', '.join(get_args(SignedMethod))}, not {method!r}.",
                hint="B2 does not implement POST policies: let browsers upload with PUT.",
            )
        check_expires_in(expires_in)
        params: dict[str, str] = {}
        headers: dict[str, str] = {}
        if version_id is not None:
            params["versionId"] = version_id
        if download_as is not None:
            if method != "GET":
                raise InvalidInputError(f"download_as means nothing for {method}.")
            params["response-content-disposition"] = attachment(download_as)
        if content_type is not None:
            if not is_header_value(content_type):
                raise InvalidInputError("content_type must be printable ASCII.")
            if method == "GET":
                params["response-content-type"] = content_type
            elif method == "PUT":
                headers["content-type"] = content_type
            else:
                raise InvalidInputError(f"content_type means nothing for {method}.")
        if encryption is not None:
            headers |= _encryption_headers(encryption, method)
        return cls(method, expires_in, params, headers)


def check_expires_in(expires_in: int) -> None:
    """Refuse a lifetime that no server grants."""
    if type(expires_in) is not int:
        raise InvalidInputError(f"expires_in must be whole seconds, not {expires_in!r}.")
    if not 1 <= expires_in <= MAX_EXPIRES_IN:
        raise InvalidInputError(
            f"expires_in must be from 1 to {MAX_EXPIRES_IN} seconds, not {expires_in}."
        )


def _encryption_headers(encryption: Encryption, method: SignedMethod) -> dict[str, str]:
    if method == "DELETE":
        raise InvalidInputError("encryption means nothing for DELETE.")
    if encryption == "SSE-B2" and method != "PUT":
        raise InvalidInputError(
            f"encryption: SSE-B2 means nothing for {method}.",
            hint="What B2 encrypts with its own keys is read without any.",
        )
    return encryption_headers(encryption)


async def presign(session: S3Session, keys: Iterable[str], grant: Grant) -> list[str]:
    """Return one URL for each key. No request is sent."""
    credentials = session.static_credentials or await session.credentials()
    if credentials.session_token or credentials.expires_at:
        _end(credentials, datetime.now(UTC), grant.expires_in)
    sign = session.signer.presigner(
        credentials, grant.method, session.origin, grant.params, grant.headers, grant.expires_in
    )
    urls: list[str] = []
    for key in keys:
        urls.append(sign(f"/{session.bucket}/{encode_key(key)}"))
        if not len(urls) % _URLS_PER_TURN:
            # A page of ten thousand would hold the event loop for tens of milliseconds.
            await asyncio.sleep(0)
    return urls


async def presign_one(session: S3Session, key: str, grant: Grant) -> tuple[str, datetime]:
    """Return a URL and when it ends. No request is sent."""
    credentials = session.static_credentials or await session.credentials()
    now = datetime.now(UTC).replace(microsecond=0)
    url = session.signer.presign(
        credentials,
        grant.method,
        session.origin,
        f"/{session.bucket}/{encode_key(key)}",
        grant.params,
        grant.headers,
        grant.expires_in,
        now,
    )
    return url, _end(credentials, now, grant.expires_in)


def _end(credentials: Credentials, now: datetime, expires_in: int) -> datetime:
    """When a URL of ``now`` ends; warn where that is before its time, with its credentials."""
    end = now + timedelta(seconds=expires_in)
    known = credentials.expires_at
    if known is not None and known < end:
        logger.warning(
            "A presigned URL for %d s will end at %s, with the temporary credentials.",
            expires_in,
            f"{known.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
            extra=log_fields("url_expires_early", expires_in=expires_in),
        )
        return known.astimezone(UTC)
    if known is None and credentials.session_token and end - now > _LONGEST_ROLE:
        logger.warning(
            "A presigned URL for %d s will end with the temporary credentials, which mostly live "
            "for an hour, and 12 hours at the longest.",
            expires_in,
            extra=log_fields("url_expires_early", expires_in=expires_in),
        )
    return end


def attachment(filename: str) -> str:
    """Return a Content-Disposition that saves under ``filename`` (RFC 6266, RFC 8187).

    Raises:
        InvalidInputError: It is a path, or has characters that disguise what it is.
    """
    check_filename("download_as", filename)
    encoded = urllib.parse.quote(filename, safe="")
    plain = filename.encode("ascii", "replace").decode("ascii").replace('"', "'")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
