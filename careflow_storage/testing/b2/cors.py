"""CORS: the rules of a bucket, preflights, and the headers that let a browser read a response.

docs/cloud-storage-cross-origin-resource-sharing-rules describes them; each function cites the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from careflow_storage.testing.b2.errors import B2Response, RefusedError, invalid, malformed
from careflow_storage.testing.b2.xml import name_of, parsed, texts_of

if TYPE_CHECKING:
    # This imports moto, which only a started server needs.
    from careflow_storage.testing.b2.store import MotoStore

_MAX_RULES = 100
_MAX_DOCUMENT = 100_000
_MAX_RULE = 1000
_MAX_AGE = 86_400
_PREFLIGHT_VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"
_METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")


class CallWithBody(Protocol):
    """A request with a body."""

    @property
    def body(self) -> bytes:
        """Decoded."""


def put_cors(ask: Callable[[Any], B2Response], call: CallWithBody) -> B2Response:
    """Accept at most 100 rules of less than 1,000 bytes each, with B2's other limits.

    docs/cloud-storage-enable-cors-with-the-s3-compatible-api has the document's size, the age and
    empty origins. Any ID is accepted: that of the example of apidocs/s3-put-bucket-cors breaks the
    native API's rule.
    """
    if len(call.body) > _MAX_DOCUMENT:
        raise malformed()
    rules = [each for each in parsed(call.body) if name_of(each) == "CORSRule"]
    if not 1 <= len(rules) <= _MAX_RULES:
        raise malformed()
    ids = [text for rule in rules for name, text in texts_of(rule) if name == "ID" and text]
    if len(set(ids)) != len(ids):
        raise invalid("The names of CORS rules must be unique")
    for rule in rules:
        _check_cors_rule(list(texts_of(rule)))
    return ask(call)


def _check_cors_rule(texts: list[tuple[str, str]]) -> None:
    found = {name for name, _ in texts}
    if not {"AllowedOrigin", "AllowedMethod"} <= found:
        raise malformed()
    size = 0
    for name, text in texts:
        size += len(text.encode()) if name != "MaxAgeSeconds" else 0
        size += len("s3_") if name == "AllowedMethod" else 0
        if name == "AllowedOrigin" and not text:
            raise invalid("illegal empty string in allowedOrigins.")
        if name in ("AllowedOrigin", "AllowedHeader") and text.count("*") > 1:
            raise invalid(f"{name} can not have more than one wildcard")
        if name == "AllowedMethod" and text not in _METHODS:
            raise RefusedError(400, "InvalidRequest", f"Found unsupported HTTP method: {text}")
        if name == "MaxAgeSeconds" and not (text.isdigit() and int(text) <= _MAX_AGE):
            raise invalid(f"maxAgeSeconds must be in the range [0, {_MAX_AGE}]")
    if size >= _MAX_RULE:
        raise invalid(f"A CORS rule must be less than {_MAX_RULE} bytes")


def preflight(store: MotoStore, bucket: str, headers: Mapping[str, str]) -> B2Response:
    """Apply the first rule that allows the whole request; refuse it without one.

    The message of the refusal is Amazon's.
    """
    origin = headers.get("origin", "")
    method = headers.get("access-control-request-method", "")
    asked = headers.get("access-control-request-headers", "").lower()
    names = [name.strip() for name in asked.split(",") if name.strip()]
    for rule in _rules_for(store, bucket, origin, method):
        allowed = [each.lower() for each in _many(rule.allowed_headers)]
        if all(any(_matches(each, name) for each in allowed) for name in names):
            found = _headers(rule, origin)
            if names:
                found["Access-Control-Allow-Headers"] = ", ".join(names)
            return B2Response(200, {**found, "Vary": _PREFLIGHT_VARY})
    raise RefusedError(403, "AccessDenied", "CORSResponse: This CORS request is not allowed.")


def response_headers(
    store: MotoStore, bucket: str, method: str, headers: Mapping[str, str]
) -> dict[str, str]:
    """Return the headers that let the page of this origin read a response, also a refusal."""
    for rule in _rules_for(store, bucket, headers.get("origin", ""), method):
        return {**_headers(rule, headers["origin"]), "Vary": "Origin"}
    return {}


def _rules_for(store: MotoStore, bucket: str, origin: str, method: str) -> Iterator[Any]:
    found = store.backend.buckets.get(bucket)
    for rule in found.cors if found is not None else ():
        allowed = any(_matches(each, origin) for each in _many(rule.allowed_origins))
        if allowed and method in _many(rule.allowed_methods):
            yield rule


def _headers(rule: Any, origin: str) -> dict[str, str]:
    given = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": ", ".join(_many(rule.allowed_methods)),
        "Access-Control-Expose-Headers": ", ".join(_many(rule.exposed_headers)),
        "Access-Control-Max-Age": str(rule.max_age_seconds or ""),
    }
    return {name: value for name, value in given.items() if value}


def _matches(pattern: str, text: str) -> bool:
    expression = ".*".join(re.escape(piece) for piece in pattern.split("*"))
    return re.fullmatch(expression, text) is not None


def _many(texts: Any) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts or ())
