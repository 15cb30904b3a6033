"""AWS Signature Version 4 for S3: signed headers and presigned URLs.

The rules are those of two documents in the *Amazon S3 API Reference*: "Signature
Calculations for the Authorization Header: Transferring Payload in a Single Chunk (AWS
Signature Version 4)" and "Authenticating Requests: Using Query Parameters (AWS Signature
Version 4)".

Nothing here normalises a path: S3 signs the path as it is sent, with ``//``, ``.`` and ``..``
kept. The HTTP client must not rewrite the URL either.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, NoReturn
from urllib.parse import quote

from careflow_storage._s3.signing.mac import Mac
from careflow_storage.errors import InvalidInputError

UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
EMPTY_PAYLOAD: Final = sha256(b"").hexdigest()
MAX_EXPIRES_IN: Final = 604_800

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
# Proxies and HTTP clients add, change or drop these, so a signature must not depend on them.
_NEVER_SIGNED: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "expect",
        "transfer-encoding",
        "user-agent",
        "x-amzn-trace-id",
    }
)
# Written by the signer. A retried request may still carry those of its first attempt.
_OWN_HEADERS: Final = frozenset(
    {"authorization", "host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"}
)
_OWN_PARAMS: Final = frozenset(
    {
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-signedheaders",
    }
)
_DEFAULT_PORTS: Final = {"https": ":443", "http": ":80"}
_CACHED_KEYS: Final = 16

_is_plain_key = re.compile(r"[A-Za-z0-9\-._~/]*").fullmatch
_is_plain_value = re.compile(r"[A-Za-z0-9\-._~]*").fullmatch


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key pair, and the token that belongs to it if it is temporary.

    ``expires_at`` is aware, and None where it is lasting or not known.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = field(default=None, compare=False)

    def __reduce__(self) -> NoReturn:
        # A task queue or a cache would store them in the open.
        raise TypeError("Credentials cannot be pickled; open a storage in each process.")


@dataclass(frozen=True, slots=True, repr=False)
class _Moment:
    """All that is the same for every request signed with these credentials in this second."""

    credentials: Credentials
    second: int
    timestamp: str
    authorization: str
    presigned: str
    token_param: str
    mac: Mac


def encode_key(key: str) -> str:
    """Percent-encode an object key for a URL's path; ``/`` stays.

    Everything but ``A-Z a-z 0-9 - . _ ~ /`` is encoded as UTF-8, as the function ``UriEncode``
    of "Signature Calculations for the Authorization Header" asks.

    Raises:
        InvalidInputError: The key holds a lone surrogate, which has no UTF-8 form.
    """
    return key if _is_plain_key(key) else _quote(key, "/")


def canonical_query(params: Mapping[str, str]) -> str:
    """Encode and sort query parameters; the result is both sent and signed.

    A parameter without a value, such as ``uploads``, is given as ``""`` and becomes
    ``uploads=``.

    Raises:
        InvalidInputError: A name or value holds a lone surrogate.
    """
    return _join(_encoded(params))


def derive_signing_key(secret_access_key: str, date: str, region: str, service: str) -> bytes:
    """Derive the key of one day (``YYYYMMDD``): "Create a signed AWS API request", step 4."""
    key = f"AWS4{secret_access_key}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


class Signer:
    """Signs S3 requests for one region.

    It holds the signing keys of the days and credentials that it met last, which is what
    makes a signature cost microseconds, and nothing else. It may be shared between threads:
    its caches are replaced, never changed halfway.
    """

    __slots__ = ("_keys", "_last", "_origin", "region", "service")

    def __init__(self, region: str, service: str = "s3") -> None:
        self.region: str = region
        self.service: str = service
        self._keys: dict[tuple[str, str], Mac] = {}
        self._last: _Moment | None = None
        self._origin = ("", "")

    def __repr__(self) -> str:
        return f"Signer(region={self.region!r}, service={self.service!r})"

    def sign(
        self,
        credentials: Credentials,
        method: str,
        host: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        payload_hash: str,
        now: datetime | None = None,
    ) -> dict[str, str]:
        """Return the headers to send: ``headers``, names lower-cased, and the signature's own.

        All of them are signed but those that a proxy or an HTTP client rewrites
        (``user-agent``, ``accept-encoding`` and the like). ``host`` is signed and not
        returned: the HTTP client sends it.

        Args:
            credentials: Whose signature it is.
            method: Upper-case, e.g. ``PUT``.
            host: As in the Host header: lower-case, without the scheme's default port.
            path: The encoded absolute path, e.g. ``/bucket/`` + ``encode_key(key)``.
            query: What ``canonical_query`` made, or ``""``.
            headers: The request's other headers.
            payload_hash: The body's SHA-256 in lower-case hex, or ``UNSIGNED_PAYLOAD``.
            now: The time of signing, aware; the clock's if None.

        Raises:
            InvalidInputError: A header's value holds a line break or another control
                character, or ``now`` is naive.
        """
        moment = self._moment(credentials, now)
        signed = {
            "host": host,
            "x-amz-content-sha256": payload_hash,
            "x-amz-date": moment.timestamp,
        }
        sent = {"x-amz-content-sha256": payload_hash, "x-amz-date": moment.timestamp}
        if credentials.session_token is not None:
            sent["x-amz-security-token"] = credentials.session_token
            signed["x-amz-security-token"] = credentials.session_token
        for given, value in headers.items():
            name = given.lower()
            if name not in _OWN_HEADERS:
                sent[name] = value
                if name not in _NEVER_SIGNED:
                    signed[name] = _trimmed(name, value)
        names, lines = _canonical_headers(signed)
        signature = _signature(
            moment.mac, f"{method}\n{path}\n{query}\n{lines}\n\n{names}\n{payload_hash}"
        )
        sent["authorization"] = f"{moment.authorization}{names}, Signature={signature}"
        return sent

    def presign(
        self,
        credentials: Credentials,
        method: str,
        origin: str,
        path: str,
        params: Mapping[str, str],
        headers: Mapping[str, str],
        expires_in: int,
        now: datetime | None = None,
    ) -> str:
        """Return a URL that allows one ``method`` on one ``path`` until it expires.

        ``path`` is the encoded absolute path, e.g. ``/bucket/`` + ``encode_key(key)``; the rest is
        as for `presigner`.
        """
        sign = self.presigner(credentials, method, origin, params, headers, expires_in, now)
        return sign(path)

    def presigner(
        self,
        credentials: Credentials,
        method: str,
        origin: str,
        params: Mapping[str, str],
        headers: Mapping[str, str],
        expires_in: int,
        now: datetime | None = None,
    ) -> Callable[[str], str]:
        """Return what makes a URL of an encoded absolute path: for many that differ in it alone.

        Args:
            credentials: Whose rights the URLs lend. Temporary credentials end them earlier.
            method: Upper-case, e.g. ``GET``.
            origin: ``https://host`` or ``https://host:port``, without a path.
            params: Further query parameters, e.g. ``response-content-disposition``.
            headers: Headers, beside Host, that the user of a URL must send with exactly
                these values, e.g. ``content-type`` of an upload.
            expires_in: Seconds from ``now``, 1 to 604,800 (7 days).
            now: The time of signing, aware; the clock's if None.

        Raises:
            InvalidInputError: ``expires_in`` is out of bounds, a parameter is one that the
                signature itself sets, or a header cannot be sent.
        """
        # bool is an int, and True would become a URL that lives for one second.
        if type(expires_in) is not int or not 1 <= expires_in <= MAX_EXPIRES_IN:
            raise InvalidInputError(
                f"expires_in must be a whole number of seconds from 1 to {MAX_EXPIRES_IN}."
            )
        moment = self._moment(credentials, now)
        signed = {name.lower(): _trimmed(name, value) for name, value in headers.items()}
        signed["host"] = self._host(origin)
        names, lines = _canonical_headers(signed)
        signed_names = names if _is_plain_value(names) else _quote(names, "")
        query = (
            f"{moment.presigned}{expires_in}{moment.token_param}&X-Amz-SignedHeaders={signed_names}"
        )
        if params:
            query = _with_params(query, params)
        before, after = f"{method}\n", f"\n{query}\n{lines}\n\n{names}\n{UNSIGNED_PAYLOAD}"
        rest, mac = f"?{query}&X-Amz-Signature=", moment.mac

        def presigned(path: str) -> str:
            return f"{origin}{path}{rest}{_signature(mac, f'{before}{path}{after}')}"

        return presigned

    def _moment(self, credentials: Credentials, now: datetime | None) -> _Moment:
        if now is None:
            second = int(time.time())
        elif now.tzinfo is None:
            raise InvalidInputError("The time of signing must be aware (have a time zone).")
        else:
            second = int(now.timestamp())
        last = self._last
        # Mostly the very same credentials; refreshable ones come as a new, equal object.
        if (
            last is not None
            and last.second == second
            and (last.credentials is credentials or last.credentials == credentials)
        ):
            return last
        moment = self._new_moment(credentials, second)
        self._last = moment
        return moment

    def _new_moment(self, credentials: Credentials, second: int) -> _Moment:
        timestamp = datetime.fromtimestamp(second, UTC).strftime("%Y%m%dT%H%M%SZ")
        date = timestamp[:8]
        scope = f"{date}/{self.region}/{self.service}/aws4_request"
        who = f"{credentials.access_key_id}/{scope}"
        token = credentials.session_token
        return _Moment(
            credentials=credentials,
            second=second,
            timestamp=timestamp,
            authorization=f"{_ALGORITHM} Credential={who}, SignedHeaders=",
            presigned=(
                f"X-Amz-Algorithm={_ALGORITHM}&X-Amz-Credential={_quote(who, '')}"
                f"&X-Amz-Date={timestamp}&X-Amz-Expires="
            ),
            token_param="" if token is None else f"&X-Amz-Security-Token={_quote(token, '')}",
            mac=self._key(credentials.secret_access_key, date).begun(
                f"{_ALGORITHM}\n{timestamp}\n{scope}\n".encode()
            ),
        )

    def _key(self, secret: str, date: str) -> Mac:
        key = self._keys.get((secret, date))
        if key is None:
            key = Mac(derive_signing_key(secret, date, self.region, self.service))
            # Rotated secrets and past days must not pile up; deriving anew costs 10 us.
            kept = self._keys if len(self._keys) < _CACHED_KEYS else {}
            self._keys = {**kept, (secret, date): key}
        return key

    def _host(self, origin: str) -> str:
        known, host = self._origin
        if known != origin:
            host = host_header(origin)
            self._origin = (origin, host)
        return host


def host_header(origin: str) -> str:
    """Return the ``Host`` of an origin: lower case, and without the scheme's own port."""
    scheme, _, host = origin.lower().partition("://")
    return host.removesuffix(_DEFAULT_PORTS.get(scheme, ""))


def _signature(mac: Mac, canonical_request: str) -> str:
    return mac.sign(sha256(canonical_request.encode()).hexdigest().encode())


def _canonical_headers(signed: dict[str, str]) -> tuple[str, str]:
    if len(signed) == 1:
        return "host", f"host:{signed['host']}"
    names = sorted(signed)
    return ";".join(names), "\n".join([f"{name}:{signed[name]}" for name in names])


def _trimmed(name: str, value: str) -> str:
    """The ``Trimall`` of the documents: no outer white space, inner runs become one space."""
    if value.isprintable() and "  " not in value and value[:1] != " " and value[-1:] != " ":
        return value
    # A line break would let a value forge a header, here as on the wire.
    if any((char < " " and char != "\t") or "\x7f" <= char < "\xa0" for char in value):
        raise InvalidInputError(f"The header {name!r} holds a control character.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"The header {name!r} holds a lone surrogate.") from None
    return " ".join(value.split())


def _with_params(query: str, params: Mapping[str, str]) -> str:
    pairs = _encoded(params)
    for name, _ in pairs:
        if name.lower() in _OWN_PARAMS:
            raise InvalidInputError(f"The query parameter {name!r} is set by the signature.")
    # S3's own parameters are lower-case and sort behind X-Amz-*; any other must be sorted in.
    if all(name > "X-Amz-T" for name, _ in pairs):
        return f"{query}&{_join(pairs)}"
    mine = [(name, value) for name, _, value in (p.partition("=") for p in query.split("&"))]
    return _join([*mine, *pairs])


def _encoded(params: Mapping[str, str]) -> list[tuple[str, str]]:
    return [
        (
            name if _is_plain_value(name) else _quote(name, ""),
            value if _is_plain_value(value) else _quote(value, ""),
        )
        for name, value in params.items()
    ]


def _join(pairs: Iterable[tuple[str, str]]) -> str:
    # By encoded name and value, as pairs: "a=" must come before "a-b=".
    return "&".join([f"{name}={value}" for name, value in sorted(pairs)])


def _quote(text: str, safe: str) -> str:
    try:
        return quote(text, safe=safe)
    except UnicodeEncodeError:
        raise InvalidInputError("A key or parameter holds a lone surrogate.") from None
