"""What the requests of a job cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

from careflow_storage.usage.cost import CostEstimate, classes, estimate
from careflow_storage.usage.prices import CallClass, Prices


def calls_of(requests: Mapping[str, Mapping[str, int]]) -> dict[CallClass, int]:
    """Add up the requests at all locations by class."""
    total: Counter[str] = Counter()
    for counts in requests.values():
        total.update(counts)
    return classes(total)


def cost_of(requests: Mapping[str, int], downloaded_bytes: int, prices: Prices) -> CostEstimate:
    """Estimate the cost of requests and downloads, without that of what is stored."""
    # What was downloaded is stored there, so it counts for free downloads.
    whole = estimate(downloaded_bytes, prices, downloaded_bytes=downloaded_bytes, requests=requests)
    items = tuple(item for item in whole.items if item.what != "storage")
    total = sum((item.cost for item in items), Decimal(0))
    return whole.model_copy(update={"items": items, "total": total})
