"""The methods of `StorageAdmin` that read and write lifecycle rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from careflow_storage._lazy import LazyModule
from careflow_storage._s3.boto.pages import nothing
from careflow_storage._s3.requests.listing import checked_prefix
from careflow_storage._transfer.context import TransferContext
from careflow_storage.admin.base import AdminMethods
from careflow_storage.errors import (
    InvalidInputError,
    NoSuchConfigurationError,
    NotSupportedError,
    listed,
)

if TYPE_CHECKING:
    from careflow_storage.admin import lifecycle_rules
    from careflow_storage.admin.models import LifecycleRule
else:
    lifecycle_rules = LazyModule("careflow_storage.admin.lifecycle_rules")

_NEEDS = (lifecycle_rules,)
_MINIMUM_SIZE = "TransitionDefaultMinimumObjectSize"


class LifecycleMethods(AdminMethods):
    """Lifecycle rules, one per prefix."""

    async def get_lifecycle_rules(self, *, timeout: float | None = None) -> list[LifecycleRule]:
        """Return the lifecycle rules of the bucket, one per prefix. 1 request.

        Needs readBucketLifecycleRules. ``unsupported`` describes what other S3 servers can do
        and B2 cannot.
        """
        async with self._call("get_lifecycle_rules", _NEEDS, timeout=timeout):
            found, _ = await _read(self._context())
            return lifecycle_rules.from_s3(found)

    async def set_lifecycle_rules(
        self, rules: Iterable[LifecycleRule], *, timeout: float | None = None
    ) -> None:
        """Replace all lifecycle rules. Without a rule B2 keeps, and bills, every version.

        Needs writeBucketLifecycleRules. 1 request. B2 applies rules about once a day.

        Raises:
            InvalidInputError: B2 would refuse a rule; the message names the field, such as
                ``rules[2].hide_after_days``. No request was sent.
        """
        async with self._call("set_lifecycle_rules", _NEEDS, timeout=timeout):
            wanted = listed(rules, "rules")
            lifecycle_rules.check_rules(wanted)
            raw = [each for rule in wanted for each in lifecycle_rules.to_s3(rule)]
            await _write(self._context(), raw, {})

    async def put_lifecycle_rule(
        self, rule: LifecycleRule, *, timeout: float | None = None
    ) -> list[LifecycleRule]:
        """Add a lifecycle rule, or replace the rule of its prefix. Return all rules.

        Needs readBucketLifecycleRules and writeBucketLifecycleRules. 2 requests.

        Raises:
            InvalidInputError: B2 would refuse the rule; the message names the field.
            NotSupportedError: The prefix has rules that B2 does not support; they would be lost.
                No rule was changed.
        """
        async with self._call("put_lifecycle_rule", _NEEDS, timeout=timeout):
            return await _put_rule(self._context(), rule)

    async def remove_lifecycle_rule(
        self, prefix: str, *, timeout: float | None = None
    ) -> list[LifecycleRule]:
        """Remove the lifecycle rule of a prefix; return the rest.

        Needs readBucketLifecycleRules and writeBucketLifecycleRules. 2 requests, or 1 if the
        prefix has no rule.

        Raises:
            NotSupportedError: The prefix has rules that B2 does not support. No rule was changed.
        """
        async with self._call("remove_lifecycle_rule", _NEEDS, timeout=timeout):
            checked_prefix(prefix)
            context = self._context()
            found, extras = await _read(context)
            left = _without(found, prefix)
            if len(left) < len(found):
                await _write(context, left, extras)
            return lifecycle_rules.from_s3(left)

    async def expire_recordings(
        self,
        *,
        hide_after_days: int | None = None,
        erase_after_days: int | None = None,
        cancel_unfinished_after_days: int | None = 7,
        prefix: str = "recordings/",
        timeout: float | None = None,
    ) -> list[LifecycleRule]:
        """Set how long recordings are kept. Rules of other prefixes stay. 2 requests.

        Replaces the whole rule of the prefix: a clock that is not passed is removed. Otherwise
        as `put_lifecycle_rule`.

        Args:
            hide_after_days: Days from upload until a recording is hidden; None is never.
            erase_after_days: Days until the bytes of a hidden, deleted or overwritten recording
                are erased; None is never.
            cancel_unfinished_after_days: Days until an unfinished upload is canceled.
        """
        async with self._call("expire_recordings", _NEEDS, timeout=timeout):
            rule = lifecycle_rules.recordings_rule(
                hide_after_days=hide_after_days,
                erase_after_days=erase_after_days,
                cancel_unfinished_after_days=cancel_unfinished_after_days,
                prefix=prefix,
            )
            return await _put_rule(self._context(), rule)


async def _put_rule(context: TransferContext, rule: LifecycleRule) -> list[LifecycleRule]:
    lifecycle_rules.check_rule(rule)
    found, extras = await _read(context)
    merged = _without(found, rule.prefix) + lifecycle_rules.to_s3(rule)
    rules = lifecycle_rules.from_s3(merged)
    most = lifecycle_rules.MAX_RULES
    if len(rules) > most:
        raise InvalidInputError(
            f"The bucket has rules for {len(rules) - 1} prefixes already; B2 allows {most}.",
            hint="No rule was changed. get_lifecycle_rules() lists them.",
        )
    await _write(context, merged, extras)
    return rules


def _without(found: Sequence[dict[str, Any]], prefix: str) -> list[dict[str, Any]]:
    """Return all rules but those of a prefix, as S3 sent them. Refuse to drop unsupported ones."""
    gone = [each for each in found if lifecycle_rules.prefix_of(each) == prefix]
    unsupported = [part for each in gone for part in lifecycle_rules.foreign_parts(each)]
    if unsupported:
        raise NotSupportedError(
            f"The prefix {prefix!r} has rules that cannot be kept: {'; '.join(unsupported)}.",
            hint="Nothing was changed. Change these rules with the S3 client of "
            "`await storage.client()`.",
        )
    return [each for each in found if lifecycle_rules.prefix_of(each) != prefix]


async def _read(context: TransferContext) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rules as S3 has them, and the other settings that a write must repeat."""
    try:
        return await context.control.call(
            "get_bucket_lifecycle_configuration",
            None,
            {},
            lambda response: (
                list(response["Rules"]),
                {name: response[name] for name in (_MINIMUM_SIZE,) if response.get(name)},
            ),
        )
    except NoSuchConfigurationError:
        return [], {}


async def _write(
    context: TransferContext, rules: Sequence[dict[str, Any]], extras: Mapping[str, Any]
) -> None:
    if not rules:
        await context.control.call("delete_bucket_lifecycle", None, {}, nothing)
        return
    await context.control.call(
        "put_bucket_lifecycle_configuration",
        None,
        {"LifecycleConfiguration": {"Rules": list(rules)}, **extras},
        nothing,
    )
