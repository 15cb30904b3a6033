"""Authentication: signatures in headers and URLs, checked as B2 checks them.

Version 4 of AWS's signatures only (docs/cloud-storage-call-the-s3-compatible-api), URLs for 1
to 604,800 seconds. The 15 minutes by which clocks may differ and the wording of most refusals
are AWS's, since B2's were not seen; "Signature validation failed" is B2's (cloudflare-b2#5).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_plus, unquote_to_bytes

from careflow_storage._s3.signing.signer import (
    MAX_EXPIRES_IN,
    UNSIGNED_PAYLOAD,
    canonical_query,
    derive_signing_key,
)
from careflow_storage.testing.b2.errors import RefusedError, denied
from careflow_storage.testing.b2.keys import ApplicationKey, KeyRing

_SKEW = timedelta(minutes=15)
_ALGORITHM = "AWS4-HMAC-SHA256"
_HEADER = re.compile(
    rf"{_ALGORITHM} Credential=([^,]*),\s*SignedHeaders=([^,]*),\s*Signature=([0-9a-f]{{64}})"
)


class _Claim(NamedTuple):
    """The parameters of a signature."""

    scope: str
    signed: str
    signature: str
    timestamp: str
    payload_hash: str
    expires_in: int | None


def authenticate(
    method: str,
    target: str,
    headers: Mapping[str, str],
    *,
    keys: KeyRing,
    region: str,
    now: datetime,
) -> ApplicationKey | None:
    """Return the key that signed a request; None if it is unsigned. Header names in lower case.

    Raises:
        RefusedError: The signature, its age, its scope or its key is not good.
    """
    path, _, text = target.partition("?")
    query = [
        (unquote_plus(name), unquote_plus(value))
        for name, _, value in (pair.partition("=") for pair in text.split("&") if pair)
    ]
    claim = _claim(headers, dict(query))
    if claim is None:
        return None
    key_id, _, scope = claim.scope.partition("/")
    key = keys.find(key_id, now)
    _check_time(claim, now)
    date = claim.timestamp[:8]
    if scope != f"{date}/{region}/s3/aws4_request":
        raise _wrong()
    _check_signed_headers(claim, headers)
    params = {name: value for name, value in query if name != "X-Amz-Signature"}
    lines = "".join(
        f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in claim.signed.split(";")
    )
    canonical = "\n".join(
        (
            method,
            # From bytes, since keys that are not UTF-8 are signed too.
            quote_from_bytes(unquote_to_bytes(path), safe="/~"),
            canonical_query(params),
            lines,
            claim.signed,
            claim.payload_hash,
        )
    )
    to_sign = "\n".join(
        (_ALGORITHM, claim.timestamp, scope, sha256(canonical.encode()).hexdigest())
    )
    signing_key = derive_signing_key(key.application_key, date, region, "s3")
    expected = hmac.digest(signing_key, to_sign.encode(), "sha256").hex()
    if not hmac.compare_digest(expected, claim.signature):
        raise _wrong()
    return key


def _claim(headers: Mapping[str, str], query: Mapping[str, str]) -> _Claim | None:
    authorization = headers.get("authorization", "")
    if authorization.startswith("AWS ") or "AWSAccessKeyId" in query:
        raise RefusedError(
            400,
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. "
            "Please use AWS4-HMAC-SHA256.",
        )
    if authorization:
        found = _HEADER.fullmatch(authorization)
        if found is None:
            raise _malformed()
        return _Claim(
            found[1],
            found[2],
            found[3],
            headers.get("x-amz-date", ""),
            headers.get("x-amz-content-sha256", ""),
            None,
        )
    if "X-Amz-Signature" not in query:
        return None
    expires_in = query.get("X-Amz-Expires", "")
    if not expires_in.isdigit() or not 1 <= int(expires_in) <= MAX_EXPIRES_IN:
        raise RefusedError(
            400,
            "AuthorizationQueryParametersError",
            "X-Amz-Expires must be between 1 and 604800 seconds",
        )
    return _Claim(
        query.get("X-Amz-Credential", ""),
        query.get("X-Amz-SignedHeaders", ""),
        query["X-Amz-Signature"],
        query.get("X-Amz-Date", ""),
        UNSIGNED_PAYLOAD,
        int(expires_in),
    )


def _check_time(claim: _Claim, now: datetime) -> None:
    try:
        signed_at = datetime.strptime(claim.timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise _malformed() from None
    if claim.expires_in is not None and now > signed_at + timedelta(seconds=claim.expires_in):
        # B2's message in 2025 and 2026 (kyantech/Palmr#208).
        raise RefusedError(
            401,
            "UnauthorizedAccess",
            f"Request has expired given timestamp: '{claim.timestamp}' "
            f"and expiration: {claim.expires_in}",
        )
    too_early = signed_at > now + _SKEW
    too_late = claim.expires_in is None and signed_at < now - _SKEW
    if too_early or too_late:
        raise RefusedError(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        )


def _check_signed_headers(claim: _Claim, headers: Mapping[str, str]) -> None:
    signed = claim.signed.split(";")
    if "host" not in signed or any(name not in headers for name in signed):
        raise _wrong()
    # Otherwise a client with a URL could add its own metadata, for example, to an upload.
    unsigned = [name for name in headers if name.startswith("x-amz-") and name not in signed]
    if [name for name in unsigned if name != "x-amz-content-sha256"]:
        raise denied("There were headers present in the request which were not signed")


def _wrong() -> RefusedError:
    return RefusedError(403, "SignatureDoesNotMatch", "Signature validation failed")


def _malformed() -> RefusedError:
    return RefusedError(
        400, "AuthorizationHeaderMalformed", "The authorization header is malformed"
    )
