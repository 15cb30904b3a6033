"""Limits for stored bytes and cost, and alerts if they are exceeded."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from decimal import Decimal
from typing import Literal, Protocol

from careflow_storage.errors import InvalidInputError
from careflow_storage.models import Model
from careflow_storage.usage.cost import estimate
from careflow_storage.usage.models import UsageReport
from careflow_storage.usage.prices import B2_TODAY, Prices
from careflow_storage.usage.sizes import decimal_size, money

Watched = Literal["bytes", "monthly_cost", "unfinished_bytes", "hidden_share"]
"""A figure that `Thresholds` can limit."""


class Thresholds(Model):
    """Limits. A value above a limit is an alert; None is no limit.

    Attributes:
        bytes: All billed bytes.
        monthly_cost: The cost of a month, in the currency of the prices.
        unfinished_bytes: The parts of unfinished uploads.
        hidden_share: The share of hidden versions in all billed bytes, from 0 to 1.
    """

    bytes: int | None = None
    monthly_cost: Decimal | None = None
    unfinished_bytes: int | None = None
    hidden_share: float | None = None


class Alert(Model):
    """A limit that is exceeded; ``sentence`` explains it to people."""

    what: Watched
    limit: Decimal
    measured: Decimal
    sentence: str


class _Admin(Protocol):
    async def usage(
        self,
        prefix: str = "",
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as `StorageAdmin.usage` has it
    ) -> UsageReport: ...


class _Storage(Protocol):
    @property
    def admin(self) -> _Admin: ...


def check_thresholds(
    report: UsageReport,
    thresholds: Thresholds,
    *,
    prices: Prices = B2_TODAY,
    downloaded_bytes: int = 0,
    requests: Mapping[str, int] | None = None,
) -> list[Alert]:
    """Return an alert for each limit that a measurement exceeds. Sends no request.

    The cost is that of `estimate` with these ``prices``, downloads and requests.

    Raises:
        InvalidInputError: A limit is negative or not finite; or it is for unfinished uploads,
            and they could not be counted (``report.notes``).
    """
    _check_thresholds(thresholds)
    if thresholds.unfinished_bytes is not None and not report.complete:
        raise InvalidInputError(
            "thresholds.unfinished_bytes cannot be checked: the uploads could not be counted.",
            hint=" ".join(report.notes),
        )
    cost = estimate(report, prices, downloaded_bytes=downloaded_bytes, requests=requests)
    return list(_alerts(report, thresholds, cost.total, cost.currency))


async def watch(
    storage: _Storage,
    thresholds: Thresholds,
    on_alert: Callable[[Alert], Awaitable[None] | None],
    *,
    prefix: str = "",
    prices: Prices = B2_TODAY,
    timeout: float | None = None,  # noqa: ASYNC109 - as all methods of the storage have it
) -> list[Alert]:
    """Measure once, and call ``on_alert`` (sync or async) for each limit that is exceeded.

    Run it from cron or a worker's schedule. Returns the alerts. Raises what ``on_alert`` raises.
    Sends the requests of ``storage.admin.usage``.

    Raises:
        InvalidInputError: As `check_thresholds`; an invalid limit before any request.
    """
    _check_thresholds(thresholds)
    report = await storage.admin.usage(prefix, timeout=timeout)
    alerts = check_thresholds(report, thresholds, prices=prices)
    for alert in alerts:
        pending = on_alert(alert)
        if inspect.isawaitable(pending):
            await pending
    return alerts


def _alerts(
    report: UsageReport, thresholds: Thresholds, cost: Decimal, currency: str
) -> Iterator[Alert]:
    where = f"{report.bucket}/{report.prefix}"
    total = report.total
    if thresholds.bytes is not None and total.billed_bytes > thresholds.bytes:
        yield Alert(
            what="bytes",
            limit=Decimal(thresholds.bytes),
            measured=Decimal(total.billed_bytes),
            sentence=f"{where} stores {decimal_size(total.billed_bytes)}, "
            f"more than {decimal_size(thresholds.bytes)}.",
        )
    if thresholds.monthly_cost is not None and cost > thresholds.monthly_cost:
        yield Alert(
            what="monthly_cost",
            limit=thresholds.monthly_cost,
            measured=cost,
            sentence=f"{where} costs about {money(cost)} {currency} a month, "
            f"more than {money(thresholds.monthly_cost)}.",
        )
    limit = thresholds.unfinished_bytes
    if limit is not None and total.unfinished_bytes > limit:
        yield Alert(
            what="unfinished_bytes",
            limit=Decimal(limit),
            measured=Decimal(total.unfinished_bytes),
            sentence=f"{where} stores {decimal_size(total.unfinished_bytes)} of "
            f"{total.unfinished_uploads} unfinished uploads, more than {decimal_size(limit)}: "
            "abort_stale_uploads() frees them.",
        )
    share = thresholds.hidden_share
    if share is not None and total.hidden_bytes > Decimal(str(share)) * total.billed_bytes:
        measured = Decimal(total.hidden_bytes) / total.billed_bytes
        yield Alert(
            what="hidden_share",
            limit=Decimal(str(share)),
            measured=measured,
            sentence=f"{measured:.0%} of the bytes of {where} are hidden versions, more than "
            f"{share:.0%}: a lifecycle rule erases them.",
        )


def _check_thresholds(thresholds: Thresholds) -> None:
    for name in ("bytes", "monthly_cost", "unfinished_bytes"):
        limit = getattr(thresholds, name)
        if limit is not None and not (Decimal(limit).is_finite() and limit >= 0):
            raise InvalidInputError(f"thresholds.{name} must be 0 or more, not {limit}.")
    share = thresholds.hidden_share
    if share is not None and not 0 <= share <= 1:
        raise InvalidInputError(f"thresholds.hidden_share must be 0 to 1, not {share}.")
