"""The settings of a bucket: lifecycle and encryption; and its deletion.

As in `rules`, each function cites what it follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from careflow_storage.testing.b2.errors import B2Response, RefusedError, invalid, malformed
from careflow_storage.testing.b2.xml import document, name_of, parsed, texts_of
from careflow_storage.testing.proxy.operations import Target

if TYPE_CHECKING:
    # This imports moto, which only a started server needs.
    from careflow_storage.testing.b2.store import MotoStore

MAX_RULES = 100
_XML = {"Content-Type": "application/xml"}
# An action of S3, the element with its days, and B2's period for it.
_PERIODS = (
    ("Expiration", "Days", "hide"),
    ("NoncurrentVersionExpiration", "NoncurrentDays", "erase"),
    ("AbortIncompleteMultipartUpload", "DaysAfterInitiation", "cancel"),
)

Periods = dict[str, dict[str, int]]


class SettingsCall(Protocol):
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
    store: MotoStore, ask: Callable[[Any], B2Response]
) -> dict[str, Callable[[Any], B2Response]]:
    """Return the handler of each operation; ``ask`` returns moto's response."""
    return {
        "GetBucketLifecycleConfiguration": partial(_get_lifecycle, store),
        "PutBucketLifecycleConfiguration": partial(_put_lifecycle, store),
        "DeleteBucketLifecycleConfiguration": partial(_delete_lifecycle, store),
        "PutBucketEncryption": partial(_put_encryption, ask),
        "DeleteBucket": partial(_delete_bucket, store, ask),
    }


def _delete_bucket(
    store: MotoStore, ask: Callable[[SettingsCall], B2Response], call: SettingsCall
) -> B2Response:
    """Refuse to delete a bucket with versions, delete markers or unfinished uploads (apidocs)."""
    bucket = call.target.bucket
    if store.versions(bucket, None) or store.uploads(bucket):
        raise RefusedError(409, "BucketNotEmpty", "The bucket you tried to delete is not empty")
    return ask(call)


def _put_encryption(ask: Callable[[SettingsCall], B2Response], call: SettingsCall) -> B2Response:
    """Accept only SSE-B2 (backblaze-labs/b2-mcp, src/s3/multipart.ts: no SSE-KMS)."""
    algorithms = [each.text for each in parsed(call.body).iter() if name_of(each) == "SSEAlgorithm"]
    if algorithms != ["AES256"]:
        raise invalid("Unsupported server side encryption algorithm")
    return ask(call)


def _put_lifecycle(store: MotoStore, call: SettingsCall) -> B2Response:
    """Turn S3's rules into B2's, one for each prefix (apidocs/s3-put-lifecycle-configuration).

    At most 100 of them, with positive days (docs/cloud-storage-lifecycle-rules); without storage
    classes and tags (backblaze-labs/b2-mcp, src/s3/buckets.ts). The codes of the refusals are
    unknown.
    """
    periods: Periods = {}
    for rule in parsed(call.body):
        if name_of(rule) == "Rule":
            _add_periods(periods, rule)
    if not periods:
        raise malformed()
    if len(periods) > MAX_RULES:
        raise invalid(f"A bucket can have at most {MAX_RULES} lifecycle rules")
    for prefix, mine in periods.items():
        if not mine:
            raise invalid(
                f"Rule with prefix '{prefix}' must have at least one additional property defined"
            )
    _bucket(store, call).b2_lifecycle = periods
    return B2Response(200)


def _add_periods(periods: Periods, rule: ElementTree.Element) -> None:
    known = {"ID", "Status", "Prefix", "Filter", *(action for action, _, _ in _PERIODS)}
    elements = {name_of(each): each for each in rule}
    for name in elements:
        if name not in known:
            raise invalid(f"{name} is not supported in lifecycle rules")
    status = elements["Status"].text if "Status" in elements else None
    if status != "Enabled":
        raise invalid("Only enabled lifecycle rules are supported")
    mine = periods.setdefault(_prefix(elements), {})
    for action, days, period in _PERIODS:
        for name, text in texts_of(elements[action]) if action in elements else ():
            if name == days and text.isdigit() and int(text) > 0:
                mine[period] = min(int(text), mine.get(period, int(text)))
            elif (name, text) != ("ExpiredObjectDeleteMarker", "true"):
                raise invalid(f"Unsupported {name} in {action}")


def _prefix(elements: Mapping[str, ElementTree.Element]) -> str:
    """Return the prefix of the filter, or, as in early S3, of the rule itself."""
    where = elements.get("Filter", elements.get("Prefix"))
    if where is None:
        raise malformed()
    inner = [each for each in where.iter() if name_of(each) not in ("Filter", "And")]
    if any(name_of(each) != "Prefix" for each in inner):
        raise invalid("Lifecycle rules can be limited by prefix only")
    return next((each.text or "" for each in inner), "")


def _get_lifecycle(store: MotoStore, call: SettingsCall) -> B2Response:
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
    return B2Response(200, _XML, document("LifecycleConfiguration", "".join(rules)))


def _actions(periods: Periods) -> Iterator[tuple[str, str]]:
    for prefix, mine in periods.items():
        for action, days, period in _PERIODS:
            if period in mine:
                yield prefix, f"<{action}><{days}>{mine[period]}</{days}></{action}>"
            if period in mine and period == "hide":
                marker = "<ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker>"
                yield prefix, f"<{action}>{marker}</{action}>"


def _delete_lifecycle(store: MotoStore, call: SettingsCall) -> B2Response:
    _bucket(store, call).b2_lifecycle = None
    return B2Response(204)


def _bucket(store: MotoStore, call: SettingsCall) -> Any:
    # moto's lifecycle rules have no such periods: they are stored on moto's bucket.
    return store.backend.get_bucket(call.target.bucket)
