"""The settings of a bucket: CORS, lifecycle, encryption; and its deletion.

As in `rules`, each function cites what it follows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from careflow_storage._s3.xml.reader import decoded
from careflow_storage.errors import ServerResponseError
from careflow_storage.testing.b2.errors import RefusedError, Response, invalid
from careflow_storage.testing.b2.xml import document
from careflow_storage.testing.proxy.operations import Target

if TYPE_CHECKING:
    # This imports moto, which only a started server needs.
    from careflow_storage.testing.b2.store import MotoStore

MAX_RULES = 100
_MAX_CORS_DOCUMENT = 100_000
_MAX_CORS_RULE = 1000
_MAX_AGE = 86_400
_METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")
_XML = {"Content-Type": "application/xml"}
# An action of S3, the element with its days, and B2's period for it.
_PERIODS = (
    ("Expiration", "Days", "hide"),
    ("NoncurrentVersionExpiration", "NoncurrentDays", "erase"),
    ("AbortIncompleteMultipartUpload", "DaysAfterInitiation", "cancel"),
)

Periods = dict[str, dict[str, int]]


class Call(Protocol):
    """A request that is allowed."""

    @property
    def target(self) -> Target:
        """Its operation, bucket and key."""

    @property
    def headers(self) -> dict[str, str]:
        """Names in lower case."""

    @property
    def body(self) -> bytes:
        """Decoded."""


def handlers(
    store: MotoStore, ask: Callable[[Any], Response]
) -> dict[str, Callable[[Any], Response]]:
    """Return the handler of each operation; ``ask`` returns moto's response."""
    return {
        "Preflight": partial(_preflight, store),
        "PutBucketCors": partial(_put_cors, ask),
        "GetBucketLifecycleConfiguration": partial(_get_lifecycle, store),
        "PutBucketLifecycleConfiguration": partial(_put_lifecycle, store),
        "DeleteBucketLifecycleConfiguration": partial(_delete_lifecycle, store),
        "PutBucketEncryption": partial(_put_encryption, ask),
        "DeleteBucket": partial(_delete_bucket, store, ask),
    }


def _delete_bucket(store: MotoStore, ask: Callable[[Call], Response], call: Call) -> Response:
    """Refuse to delete a bucket with versions, delete markers or unfinished uploads (apidocs)."""
    bucket = call.target.bucket
    if store.versions(bucket, None) or store.uploads(bucket):
        raise RefusedError(409, "BucketNotEmpty", "The bucket you tried to delete is not empty")
    return ask(call)


def _put_encryption(ask: Callable[[Call], Response], call: Call) -> Response:
    """Accept only SSE-B2 (backblaze-labs/b2-mcp, src/s3/multipart.ts: no SSE-KMS)."""
    algorithms = [each.text for each in _parsed(call.body).iter() if _name(each) == "SSEAlgorithm"]
    if algorithms != ["AES256"]:
        raise invalid("Unsupported server side encryption algorithm")
    return ask(call)


# --- CORS -----------------------------------------------------------------------------------


def _put_cors(ask: Callable[[Call], Response], call: Call) -> Response:
    """Accept at most 100 rules of less than 1,000 bytes each, with B2's other limits.

    docs/cloud-storage-cross-origin-resource-sharing-rules, and for the document's size, the age
    and empty origins docs/cloud-storage-enable-cors-with-the-s3-compatible-api. Any ID is accepted:
    that of the example of apidocs/s3-put-bucket-cors breaks the native API's rule.
    """
    if len(call.body) > _MAX_CORS_DOCUMENT:
        raise _malformed()
    rules = [each for each in _parsed(call.body) if _name(each) == "CORSRule"]
    if not 1 <= len(rules) <= MAX_RULES:
        raise _malformed()
    ids = [text for rule in rules for name, text in _texts(rule) if name == "ID" and text]
    if len(set(ids)) != len(ids):
        raise invalid("The names of CORS rules must be unique")
    for rule in rules:
        _check_cors_rule(list(_texts(rule)))
    return ask(call)


def _check_cors_rule(texts: list[tuple[str, str]]) -> None:
    found = {name for name, _ in texts}
    if not {"AllowedOrigin", "AllowedMethod"} <= found:
        raise _malformed()
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
    if size >= _MAX_CORS_RULE:
        raise invalid(f"A CORS rule must be less than {_MAX_CORS_RULE} bytes")


def _preflight(store: MotoStore, call: Call) -> Response:
    """Apply the first rule that allows the whole request; refuse it without one.

    docs/cloud-storage-cross-origin-resource-sharing-rules; the message of the refusal is Amazon's.
    """
    origin = call.headers.get("origin", "")
    method = call.headers.get("access-control-request-method", "")
    asked = call.headers.get("access-control-request-headers", "").lower()
    headers = [name.strip() for name in asked.split(",") if name.strip()]
    bucket = store.backend.buckets.get(call.target.bucket)
    for rule in bucket.cors if bucket is not None else ():
        if (
            any(_matches(each, origin) for each in _many(rule.allowed_origins))
            and method in _many(rule.allowed_methods)
            and all(
                any(_matches(each.lower(), name) for each in _many(rule.allowed_headers))
                for name in headers
            )
        ):
            return Response(200, _allowance(rule, origin, headers))
    raise RefusedError(403, "AccessDenied", "CORSResponse: This CORS request is not allowed.")


def _allowance(rule: Any, origin: str, headers: list[str]) -> dict[str, str]:
    given = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": ", ".join(_many(rule.allowed_methods)),
        "Access-Control-Allow-Headers": ", ".join(headers),
        "Access-Control-Expose-Headers": ", ".join(_many(rule.exposed_headers)),
        "Access-Control-Max-Age": str(rule.max_age_seconds or ""),
        "Vary": "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
    }
    return {name: value for name, value in given.items() if value}


def _matches(pattern: str, text: str) -> bool:
    expression = ".*".join(re.escape(piece) for piece in pattern.split("*"))
    return re.fullmatch(expression, text) is not None


def _many(texts: Any) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts or ())


# --- lifecycle ------------------------------------------------------------------------------


def _put_lifecycle(store: MotoStore, call: Call) -> Response:
    """Turn S3's rules into B2's, one for each prefix (apidocs/s3-put-lifecycle-configuration).

    At most 100 of them, with positive days (docs/cloud-storage-lifecycle-rules); without storage
    classes and tags (backblaze-labs/b2-mcp, src/s3/buckets.ts). The codes of the refusals are
    unknown.
    """
    periods: Periods = {}
    for rule in _parsed(call.body):
        if _name(rule) == "Rule":
            _add_periods(periods, rule)
    if not periods:
        raise _malformed()
    if len(periods) > MAX_RULES:
        raise invalid(f"A bucket can have at most {MAX_RULES} lifecycle rules")
    for prefix, mine in periods.items():
        if not mine:
            raise invalid(
                f"Rule with prefix '{prefix}' must have at least one additional property defined"
            )
    _bucket(store, call).b2_lifecycle = periods
    return Response(200)


def _add_periods(periods: Periods, rule: ElementTree.Element) -> None:
    known = {"ID", "Status", "Prefix", "Filter", *(action for action, _, _ in _PERIODS)}
    elements = {_name(each): each for each in rule}
    for name in elements:
        if name not in known:
            raise invalid(f"{name} is not supported in lifecycle rules")
    status = elements["Status"].text if "Status" in elements else None
    if status != "Enabled":
        raise invalid("Only enabled lifecycle rules are supported")
    mine = periods.setdefault(_prefix(elements), {})
    for action, days, period in _PERIODS:
        for name, text in _texts(elements[action]) if action in elements else ():
            if name == days and text.isdigit() and int(text) > 0:
                mine[period] = min(int(text), mine.get(period, int(text)))
            elif (name, text) != ("ExpiredObjectDeleteMarker", "true"):
                raise invalid(f"Unsupported {name} in {action}")


def _prefix(elements: Mapping[str, ElementTree.Element]) -> str:
    """Return the prefix of the filter, or, as in early S3, of the rule itself."""
    where = elements.get("Filter", elements.get("Prefix"))
    if where is None:
        raise _malformed()
    inner = [each for each in where.iter() if _name(each) not in ("Filter", "And")]
    if any(_name(each) != "Prefix" for each in inner):
        raise invalid("Lifecycle rules can be limited by prefix only")
    return next((each.text or "" for each in inner), "")


def _get_lifecycle(store: MotoStore, call: Call) -> Response:
    """Return a rule that hides as two (apidocs/s3-get-lifecycle-configuration)."""
    periods = getattr(_bucket(store, call), "b2_lifecycle", None)
    if periods is None:
        raise RefusedError(
            404, "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"
        )
    rules = [
        f"<Rule><ID>{number}</ID><Filter><Prefix>{escape(prefix)}</Prefix></Filter>"
        f"<Status>Enabled</Status>{action}</Rule>"
        for number, (prefix, action) in enumerate(_actions(periods), 1)
    ]
    return Response(200, _XML, document("LifecycleConfiguration", "".join(rules)))


def _actions(periods: Periods) -> Iterator[tuple[str, str]]:
    for prefix, mine in periods.items():
        for action, days, period in _PERIODS:
            if period in mine:
                yield prefix, f"<{action}><{days}>{mine[period]}</{days}></{action}>"
            if period in mine and period == "hide":
                marker = "<ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker>"
                yield prefix, f"<{action}>{marker}</{action}>"


def _delete_lifecycle(store: MotoStore, call: Call) -> Response:
    _bucket(store, call).b2_lifecycle = None
    return Response(204)


def _bucket(store: MotoStore, call: Call) -> Any:
    # moto's lifecycle rules have no such periods: they are stored on moto's bucket.
    return store.backend.get_bucket(call.target.bucket)


def _parsed(body: bytes) -> ElementTree.Element:
    try:
        # Document types are refused, so there are no entities to expand.
        return ElementTree.fromstring(decoded(body))  # noqa: S314
    except (ServerResponseError, ElementTree.ParseError):
        raise _malformed() from None


def _texts(element: ElementTree.Element) -> Iterator[tuple[str, str]]:
    for each in element:
        yield _name(each), each.text or ""


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _malformed() -> RefusedError:
    return RefusedError(
        400, "MalformedXML", "The XML you provided was not well-formed or did not validate"
    )
