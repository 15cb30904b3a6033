"""Lifecycle rules in S3's format, as `aws s3api put-bucket-lifecycle-configuration` takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from careflow_storage.admin import LifecycleRule
from careflow_storage.admin.lifecycle_rules import from_s3
from careflow_storage.errors import InvalidInputError

_S3_FIELDS = frozenset(
    {
        *("ID", "Status", "Filter", "Expiration", "NoncurrentVersionExpiration"),
        *("AbortIncompleteMultipartUpload", "Transitions", "NoncurrentVersionTransitions"),
    }
)


class _Strict(BaseModel):
    """A model that accepts only its own fields, with exactly their types."""

    model_config = ConfigDict(strict=True, extra="forbid")


class _And(_Strict):
    Prefix: str | None = None
    Tags: list[dict[str, str]] | None = None
    ObjectSizeGreaterThan: int | None = None
    ObjectSizeLessThan: int | None = None


class _Filter(_Strict):
    Prefix: str | None = None
    Tag: dict[str, str] | None = None
    And: _And | None = None
    ObjectSizeGreaterThan: int | None = None
    ObjectSizeLessThan: int | None = None


class _Expiration(_Strict):
    Days: int | None = None
    Date: str | None = None
    ExpiredObjectDeleteMarker: bool | None = None


class _NoncurrentExpiration(_Strict):
    NoncurrentDays: int | None = None
    NewerNoncurrentVersions: int | None = None


class _Abort(_Strict):
    DaysAfterInitiation: int


class _Rule(_Strict):
    """A rule of S3. Fields that B2 lacks are read, too, so that an error can name them."""

    Status: str
    ID: str | None = None
    Prefix: str | None = None
    Filter: _Filter | None = None
    Expiration: _Expiration | None = None
    NoncurrentVersionExpiration: _NoncurrentExpiration | None = None
    AbortIncompleteMultipartUpload: _Abort | None = None
    Transitions: list[dict[str, Any]] | None = None
    NoncurrentVersionTransitions: list[dict[str, Any]] | None = None


def is_s3_lifecycle(given: Mapping[str, Any]) -> bool:
    """Whether a rule is in S3's format."""
    return not _S3_FIELDS.isdisjoint(given)


def s3_lifecycle_rules(given: Sequence[Mapping[str, Any]], expected: str) -> list[LifecycleRule]:
    """Read rules in S3's format, and join those of one prefix.

    Raises:
        InvalidInputError: They are not valid; the message names the field, and ``expected`` is the
            hint.
    """
    return from_s3(
        [_checked(rule, f"rules[{position}]", expected) for position, rule in enumerate(given)]
    )


def _checked(given: Mapping[str, Any], where: str, expected: str) -> dict[str, Any]:
    try:
        rule = _Rule.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(
            f".{part}" if isinstance(part, str) else f"[{part}]" for part in first["loc"]
        )
        message = first["msg"]
        raise InvalidInputError(
            f"{where}{place}: {message[:1].lower()}{message[1:]}.", hint=expected
        ) from None
    if rule.Status not in ("Enabled", "Disabled"):
        raise InvalidInputError(
            f"{where}.Status must be Enabled or Disabled, not {rule.Status!r}.", hint=expected
        )
    if rule.Prefix is not None and rule.Filter is not None:
        raise InvalidInputError(f"{where} has both Filter and Prefix; S3 allows only one.")
    return rule.model_dump(exclude_none=True)
