"""Measure what is stored, estimate its cost, watch limits, and draw its growth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from careflow_storage._lazy import lazy_exports

if TYPE_CHECKING:
    from careflow_storage.usage.alerts import Alert, Thresholds, Watched, check_thresholds, watch
    from careflow_storage.usage.chart import draw_growth
    from careflow_storage.usage.cost import (
        Comparison,
        CostEstimate,
        CostItem,
        classes,
        compare,
        estimate,
    )
    from careflow_storage.usage.models import Stored, UsageReport
    from careflow_storage.usage.prices import (
        AWS_S3,
        B2_GUIDE,
        B2_TODAY,
        CallClass,
        CallPrice,
        Prices,
        load_prices,
    )
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "careflow_storage.usage.chart": ("draw_growth",),
            "careflow_storage.usage.cost": (
                "Comparison",
                "CostEstimate",
                "CostItem",
                "classes",
                "compare",
                "estimate",
            ),
            "careflow_storage.usage.models": ("Stored", "UsageReport"),
            "careflow_storage.usage.prices": (
                "AWS_S3",
                "B2_GUIDE",
                "B2_TODAY",
                "CallClass",
                "CallPrice",
                "Prices",
                "load_prices",
            ),
            "careflow_storage.usage.alerts": (
                "Alert",
                "Thresholds",
                "Watched",
                "check_thresholds",
                "watch",
            ),
        },
    )

__all__ = [
    "AWS_S3",
    "B2_GUIDE",
    "B2_TODAY",
    "Alert",
    "CallClass",
    "CallPrice",
    "Comparison",
    "CostEstimate",
    "CostItem",
    "Prices",
    "Stored",
    "Thresholds",
    "UsageReport",
    "Watched",
    "check_thresholds",
    "classes",
    "compare",
    "draw_growth",
    "estimate",
    "load_prices",
    "watch",
]
