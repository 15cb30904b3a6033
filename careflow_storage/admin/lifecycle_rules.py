"""Lifecycle rules: B2's three clocks for each prefix."""

from __future__ import annotations

from collections.abc import Iterable

from careflow_storage.models import Model
from careflow_storage.transfer.engine import Engine


class LifecycleRule(Model):
    """What happens by itself to the files below ``prefix``; days are positive, None is never."""

    prefix: str
    hide_after_days: int | None = None
    erase_after_days: int | None = None
    cancel_unfinished_after_days: int | None = None


def recordings_rule(
    *,
    hide_after_days: int | None,
    erase_after_days: int | None,
    cancel_unfinished_after_days: int | None,
    prefix: str,
) -> LifecycleRule:
    raise NotImplementedError


async def get_rules(engine: Engine) -> list[LifecycleRule]:
    raise NotImplementedError


async def set_rules(engine: Engine, rules: Iterable[LifecycleRule]) -> None:
    raise NotImplementedError


async def put_rule(engine: Engine, rule: LifecycleRule) -> list[LifecycleRule]:
    raise NotImplementedError


async def remove_rule(engine: Engine, prefix: str) -> list[LifecycleRule]:
    raise NotImplementedError
