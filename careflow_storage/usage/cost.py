"""Estimate the cost of a month, at B2 and elsewhere. Sends no requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from careflow_storage.errors import InvalidInputError
from careflow_storage.models import Model
from careflow_storage.usage.models import UsageReport
from careflow_storage.usage.prices import (
    AWS_S3,
    B2_TODAY,
    CALL_CLASSES,
    CallClass,
    CallPrice,
    Prices,
    checked_prices,
)

DAYS = 30
"""The days of a month in Backblaze's price per month."""

_SMALLEST = Decimal("0.0001")
_ZERO = Decimal(0)

# Backblaze, "Pricing Organized by API Calls" (cloud-storage/transaction-pricing). Lifecycle and
# logging, which that page does not name, are classed like the other settings of a bucket.
_A = (
    *("AbortMultipartUpload", "CompleteMultipartUpload", "CreateMultipartUpload", "DeleteBucket"),
    *("DeleteObject", "DeleteObjects", "PutObject", "PutObjectLegalHold"),
    *("PutObjectLockConfiguration", "PutObjectRetention", "UploadPart"),
)
_B = (
    *("GetObject", "GetObjectLegalHold", "GetObjectLockConfiguration", "GetObjectRetention"),
    "HeadObject",
)
_C = (
    *("CopyObject", "CreateBucket", "DeleteBucketCors", "DeleteBucketEncryption"),
    *("DeleteBucketLifecycle", "DeleteBucketLifecycleConfiguration"),
    *("GetBucketAcl", "GetBucketCors", "GetBucketEncryption", "GetBucketLifecycleConfiguration"),
    *("GetBucketLocation", "GetBucketLogging", "GetBucketVersioning", "GetObjectAcl"),
    *("HeadBucket", "ListBuckets", "ListMultipartUploads", "ListObjects", "ListObjectsV2"),
    *("ListObjectVersions", "ListParts", "PutBucketAcl", "PutBucketCors", "PutBucketEncryption"),
    *("PutBucketLifecycleConfiguration", "PutBucketLogging", "PutBucketVersioning"),
    *("PutObjectAcl", "UploadPartCopy"),
)
CLASS_OF: Mapping[str, CallClass] = {
    **dict.fromkeys(_A, "A"),
    **dict.fromkeys(_B, "B"),
    **dict.fromkeys(_C, "C"),
}
"""The class of each S3 operation in Backblaze's prices and caps."""


class CostItem(Model):
    """One line of an estimate: ``quantity`` in ``unit``, of which ``free`` costs nothing.

    ``price`` is for ``per`` units. ``cost`` is rounded half up to a hundredth of a cent.
    """

    what: Literal["storage", "download", "calls"]
    call_class: CallClass | None = None
    quantity: Decimal
    unit: str
    free: Decimal
    price: Decimal
    per: int
    cost: Decimal


class CostEstimate(Model):
    """The cost of a month. ``total`` is the sum of the rounded costs of the items."""

    prices: str
    currency: str
    as_of: date
    items: tuple[CostItem, ...]
    total: Decimal

    def cost_of(self, what: Literal["storage", "download", "calls"]) -> Decimal:
        """Add up the items of one kind."""
        return sum((item.cost for item in self.items if item.what == what), _ZERO)


class Comparison(Model):
    """The same month at two providers.

    The percentages show how much cheaper the first one is (negative: more expensive), to a
    tenth. They are None if the other one costs nothing.
    """

    here: CostEstimate
    there: CostEstimate
    saved: Decimal
    saved_percent: Decimal | None
    saved_percent_on_storage: Decimal | None
    saved_percent_on_downloads: Decimal | None


def classes(requests: Mapping[str, int]) -> dict[CallClass, int]:
    """Add up requests by Backblaze's classes. Takes the result of ``storage.request_counts()``.

    Operations that Backblaze's list does not name count as class C, the most expensive.

    Raises:
        InvalidInputError: A count is not 0 or more.
    """
    totals: dict[CallClass, int] = dict.fromkeys(CALL_CLASSES, 0)
    for operation, count in requests.items():
        _check_count(f"requests[{operation!r}]", count)
        totals[CLASS_OF.get(operation, "C")] += count
    return totals


def estimate(
    stored: UsageReport | int,
    prices: Prices = B2_TODAY,
    *,
    downloaded_bytes: int = 0,
    requests: Mapping[str, int] | None = None,
) -> CostEstimate:
    """Estimate the cost of a month of 30 days with constant usage.

    Args:
        stored: A measurement, of which all billed bytes count (hidden versions and unfinished
            uploads, too); or a number of bytes: the average of the month.
        prices: `B2_TODAY`, `load_prices()` or your own.
        downloaded_bytes: The bytes downloaded in the month.
        requests: The requests of the month by S3 operation. ``storage.request_counts()`` returns
            those of one storage since it was opened.

    Does not include taxes, free downloads by partners, or volume prices. Free allowances belong
    to the account: an estimate for a part of it counts them in full.

    Raises:
        InvalidInputError: A number is negative, or a price is invalid.
    """
    checked_prices(prices)
    stored_bytes = stored.total.billed_bytes if isinstance(stored, UsageReport) else stored
    _check_count("stored", stored_bytes)
    _check_count("downloaded_bytes", downloaded_bytes)
    items = (
        *_bytes_items(prices, stored_bytes, downloaded_bytes),
        *_call_items(prices, classes(requests or {})),
    )
    return CostEstimate(
        prices=prices.name,
        currency=prices.currency,
        as_of=prices.as_of,
        items=items,
        total=sum((item.cost for item in items), _ZERO),
    )


def compare(
    stored: UsageReport | int,
    here: Prices = B2_TODAY,
    there: Prices = AWS_S3,
    *,
    downloaded_bytes: int = 0,
    requests: Mapping[str, int] | None = None,
) -> Comparison:
    """Estimate the same month at two providers, by default B2 and AWS S3.

    Raises:
        InvalidInputError: As `estimate`; or the two have different currencies.
    """
    if here.currency != there.currency:
        raise InvalidInputError(
            f"Prices in {here.currency} and {there.currency} cannot be compared.",
            hint="Use prices in one currency.",
        )
    ours = estimate(stored, here, downloaded_bytes=downloaded_bytes, requests=requests)
    theirs = estimate(stored, there, downloaded_bytes=downloaded_bytes, requests=requests)
    return Comparison(
        here=ours,
        there=theirs,
        saved=theirs.total - ours.total,
        saved_percent=_percent(ours.total, theirs.total),
        saved_percent_on_storage=_percent(ours.cost_of("storage"), theirs.cost_of("storage")),
        saved_percent_on_downloads=_percent(ours.cost_of("download"), theirs.cost_of("download")),
    )


def _bytes_items(prices: Prices, stored_bytes: int, downloaded_bytes: int) -> Iterator[CostItem]:
    stored = Decimal(stored_bytes) / prices.gb_bytes
    yield _item(
        "storage", stored, prices.free_storage_gb, prices.storage_per_gb_month, unit="GB-month"
    )
    yield _item(
        "download",
        Decimal(downloaded_bytes) / prices.gb_bytes,
        prices.free_egress_gb + prices.free_egress_times_stored * stored,
        prices.egress_per_gb,
        unit="GB",
    )


def _call_items(prices: Prices, counts: Mapping[CallClass, int]) -> Iterator[CostItem]:
    for call_class, count in counts.items():
        if count:
            price = prices.calls.get(call_class, CallPrice(per_1000=_ZERO))
            free = Decimal(price.free_per_day * DAYS)
            item = _item("calls", Decimal(count), free, price.per_1000, unit="calls", per=1000)
            yield item.model_copy(update={"call_class": call_class})


def _item(
    what: Literal["storage", "download", "calls"],
    quantity: Decimal,
    allowance: Decimal,
    price: Decimal,
    *,
    unit: str,
    per: int = 1,
) -> CostItem:
    free = min(quantity, allowance)
    cost = ((quantity - free) * price / per).quantize(_SMALLEST, ROUND_HALF_UP)
    return CostItem(
        what=what, quantity=quantity, unit=unit, free=free, price=price, per=per, cost=cost
    )


def _percent(ours: Decimal, theirs: Decimal) -> Decimal | None:
    if not theirs:
        return None
    return ((theirs - ours) / theirs * 100).quantize(Decimal("0.1"), ROUND_HALF_UP)


def _check_count(name: str, count: object) -> None:
    if type(count) is not int or count < 0:
        raise InvalidInputError(f"{name} must be an int of 0 or more, not {count!r}.")
