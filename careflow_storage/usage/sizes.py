"""Format bytes and money for people."""

from __future__ import annotations

from decimal import Decimal

from careflow_storage._counted import counted


def decimal_size(count: int) -> str:
    """Format bytes in decimal units, as they are billed: 12.3 GB."""
    size = Decimal(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return counted(count, "byte") if unit == "bytes" else f"{_rounded(size)} {unit}"
        size /= 1000
    return f"{_rounded(size)} TB"


def _rounded(size: Decimal) -> str:
    return f"{size:.2f}" if size < 10 else f"{size:,.1f}"


def money(amount: Decimal) -> str:
    """Format an amount with two decimals, or more if it has them: 12.50, 0.0042."""
    whole, _, digits = f"{amount:f}".partition(".")
    return f"{whole}.{digits.rstrip('0').ljust(2, '0')}"
