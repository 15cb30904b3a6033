"""The signature of Twilio's webhooks.

Twilio, "Secure webhooks": HMAC-SHA1 with the account's auth token, over the URL followed by the
form's parameters in alphabetical order. "Sign webhooks with shared keys": the same with a key of
your own, and with HMAC-SHA256 where the header ``X-Twilio-Webhooks-Signature-Settings`` names it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qs

from careflow_storage.errors import InvalidInputError

SignatureAlgorithm = Literal["HMAC_SHA1", "HMAC_SHA256"]
"""The algorithms of Twilio's signatures."""

SignedParams: TypeAlias = (
    Mapping[str, str] | Mapping[str, Sequence[str]] | Iterable[tuple[str, str]] | bytes | str | None
)
"""What a webhook sends: the fields of a form, the body of another kind, or nothing (GET)."""

_HASHES = {"HMAC_SHA1": hashlib.sha1, "HMAC_SHA256": hashlib.sha256}
_TLS = ("https", "wss")
_PORT = re.compile(r":[0-9]*$")


def verify_signature(
    auth_token: str | Iterable[str],
    url: str,
    params: SignedParams,
    signature: str | None,
    *,
    algorithm: SignatureAlgorithm = "HMAC_SHA1",
) -> bool:
    """Whether Twilio has signed a webhook, or the handshake of a WebSocket.

    The time does not depend on the signature.

    Args:
        auth_token: The account's auth token, or the secret of a shared key. Or several, while you
            rotate it: one of them must match.
        url: The URL as it is configured at Twilio, byte for byte, with its query but without a
            fragment. Behind a proxy that is not the URL that the app sees. For a media stream it
            begins with ``wss://``.
        params: The fields of the form: pairs, a mapping, or a mapping with several values for a
            name, as frameworks have them. For another body, such as JSON, the raw body: ``url``
            then has its hash in ``bodySHA256``. None for a GET and for a WebSocket.
        signature: The header ``X-Twilio-Signature``; None, if it is missing, is not valid.
        algorithm: The one that ``X-Twilio-Webhooks-Signature-Settings`` names.

    Raises:
        InvalidInputError: There is no auth token, or no such algorithm.
    """
    tokens: list[Any] = [auth_token] if isinstance(auth_token, str) else list(auth_token or ())
    if not tokens or not all(isinstance(token, str) and token for token in tokens):
        raise InvalidInputError(
            "auth_token is empty.", hint="Twilio's console shows it under Account info."
        )
    if algorithm not in _HASHES:
        raise InvalidInputError(f"algorithm must be one of {', '.join(_HASHES)}.")
    if isinstance(params, bytes | str):
        matches = _body_matches(url, params.encode() if isinstance(params, str) else params)
        suffix = ""
    else:
        matches, suffix = True, _canonical(params)
    found = False
    for token in tokens:
        for each in _spellings(url):
            expected = _sign(token, each + suffix, algorithm)
            found |= hmac.compare_digest(expected, _bytes_of(signature or ""))
    return found and matches


def _sign(token: str, text: str, algorithm: SignatureAlgorithm) -> bytes:
    digest = hmac.new(token.encode(), _bytes_of(text), _HASHES[algorithm]).digest()
    return base64.b64encode(digest)


def _bytes_of(text: str) -> bytes:
    # Half a surrogate pair, which no request can carry, matches nothing.
    return text.encode("utf-8", "replace")


def _canonical(params: Any) -> str:
    """Return the names and values in Twilio's order; the same pair counts once."""
    pairs = set[tuple[str, str]]()
    for name, value in _pairs(params):
        for each in [value] if isinstance(value, str) else value:
            pairs.add((name, each))
    return "".join(f"{name}{value}" for name, value in sorted(pairs))


def _pairs(params: Any) -> Iterable[tuple[str, Any]]:
    if params is None:
        return ()
    for method in ("multi_items", "lists"):  # Starlette; Django, Werkzeug
        several = getattr(params, method, None)
        if several is not None:
            items: Iterable[tuple[str, Any]] = several()
            return items
    # The items of aiohttp's MultiDict have each pair.
    pairs: Iterable[tuple[str, Any]] = params.items() if hasattr(params, "items") else params
    return pairs


def _body_matches(url: str, body: bytes) -> bool:
    """Whether the signed URL has the hash of the body."""
    query = url.partition("#")[0].partition("?")[2]
    given = parse_qs(query).get("bodySHA256", [""])[0]
    expected = hashlib.sha256(body).hexdigest()
    return hmac.compare_digest(expected.encode(), _bytes_of(given.lower()))


def _spellings(url: str) -> list[str]:
    """Return the URL without its port and with it: Twilio signs either."""
    scheme, mark, rest = url.partition("://")
    end = min((rest.find(each) for each in "/?#" if each in rest), default=len(rest))
    host, path = rest[:end], rest[end:]
    bare = _PORT.sub("", host)
    port = host[len(bare) :].lstrip(":") or ("443" if scheme.lower() in _TLS else "80")
    return [f"{scheme}{mark}{bare}{path}", f"{scheme}{mark}{bare}:{port}{path}"]
