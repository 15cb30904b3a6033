"""Prices of storage, each with the date on which it was valid."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from careflow_storage._local_paths import as_path
from careflow_storage.errors import InvalidInputError
from careflow_storage.models import Model

CallClass = Literal["A", "B", "C", "D"]
"""A class of API calls in Backblaze's price list."""

CALL_CLASSES: tuple[CallClass, ...] = ("A", "B", "C", "D")


class CallPrice(Model):
    """The price of 1000 calls of a class, beyond the free calls of each day."""

    per_1000: Decimal
    free_per_day: int = 0


class Prices(Model):
    """The prices of a provider for a month of 30 days. Prices change: check ``as_of``.

    Attributes:
        as_of: The date on which the prices were valid.
        source: The source of the prices.
        gb_bytes: The bytes of a GB at this provider: 10^9 at Backblaze, 2^30 at AWS.
        storage_per_gb_month: The price of a GB stored for a month.
        free_storage_gb: The GB that are stored for free.
        egress_per_gb: The price of a GB downloaded.
        free_egress_gb: The GB that can be downloaded for free each month.
        free_egress_times_stored: Free downloads as a multiple of the average stored bytes.
        calls: The prices of calls by class; a missing class is free.
    """

    name: str
    currency: str
    as_of: date
    source: str
    storage_per_gb_month: Decimal
    egress_per_gb: Decimal
    gb_bytes: int = 1_000_000_000
    free_storage_gb: Decimal = Decimal(0)
    free_egress_gb: Decimal = Decimal(0)
    free_egress_times_stored: Decimal = Decimal(0)
    calls: dict[CallClass, CallPrice] = Field(default_factory=dict)


B2_TODAY = Prices(
    name="Backblaze B2",
    currency="USD",
    as_of=date(2026, 9, 29),
    source="reports of backblaze.com/cloud-storage/pricing: $6.95/TB, pay as you go",
    storage_per_gb_month=Decimal("0.00695"),
    free_storage_gb=Decimal(10),
    egress_per_gb=Decimal("0.01"),
    free_egress_times_stored=Decimal(3),
    calls={"D": CallPrice(per_1000=Decimal("0.0004"), free_per_day=2500)},
)
"""Backblaze's pay-as-you-go prices. Calls of classes A, B and C are free."""

B2_GUIDE = Prices(
    name="B2 in 2023",
    currency="USD",
    as_of=date(2023, 9, 30),
    source="the table of CareFlow's Backblaze guide, two price rises ago; without what was free",
    storage_per_gb_month=Decimal("0.005"),
    egress_per_gb=Decimal("0.01"),
    calls={
        "A": CallPrice(per_1000=Decimal("0.004")),
        "B": CallPrice(per_1000=Decimal("0.004")),
        "C": CallPrice(per_1000=Decimal("0.004")),
    },
)
"""Backblaze's prices of 2023, which CareFlow's first guide quotes, to compare with today's."""

AWS_S3 = Prices(
    name="AWS S3",
    currency="USD",
    as_of=date(2026, 3, 13),
    source="reports of aws.amazon.com/s3/pricing: Standard, US East (N. Virginia), lowest volume",
    gb_bytes=1 << 30,
    storage_per_gb_month=Decimal("0.023"),
    egress_per_gb=Decimal("0.09"),
    free_egress_gb=Decimal(100),
    # AWS has two prices: one to write, copy and list, one to read.
    calls={
        "A": CallPrice(per_1000=Decimal("0.005")),
        "B": CallPrice(per_1000=Decimal("0.0004")),
        "C": CallPrice(per_1000=Decimal("0.005")),
    },
)
"""AWS's list prices for the same calls, to compare with."""


class _PricesFile(BaseSettings):
    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="BACKBLAZE_",
        env_file=".env",
        env_file_encoding="utf-8-sig",
        env_ignore_empty=True,
        extra="ignore",
    )

    prices_file: Path | None = None


def load_prices(path: str | os.PathLike[str] | None = None) -> Prices:
    """Read prices from the TOML file ``path``, or the one that ``BACKBLAZE_PRICES_FILE`` names.

    Its fields are those of `Prices`; ``name``, ``currency``, ``as_of``, ``source``,
    ``storage_per_gb_month`` and ``egress_per_gb`` are required. Without a file, returns
    `B2_TODAY`. The variable may also be in ``.env``. Blocks while it reads the small file.

    Raises:
        InvalidInputError: The file cannot be read, or fields are missing, unknown or invalid.
            The message names each field.
    """
    place = _PricesFile().prices_file if path is None else as_path(path)
    if place is None:
        return B2_TODAY
    try:
        with place.open("rb") as file:
            content = tomllib.load(file, parse_float=Decimal)
    except OSError as error:
        raise InvalidInputError(
            f"The prices in {place} cannot be read ({error.strerror or type(error).__name__}).",
            hint="BACKBLAZE_PRICES_FILE names it." if path is None else None,
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"The prices in {place} are not TOML: {error}.") from error
    try:
        prices = Prices.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_problem(each["loc"], each["msg"]) for each in error.errors())
        raise InvalidInputError(f"The prices in {place} are not complete: {problems}.") from None
    return checked_prices(prices)


def checked_prices(prices: Prices) -> Prices:
    """Return valid prices; raise `InvalidInputError` naming each invalid field."""
    if not isinstance(prices, Prices):
        raise InvalidInputError(f"prices must be Prices, not {type(prices).__name__}.")
    wrong = "; ".join(_wrong_fields(prices))
    if wrong:
        raise InvalidInputError(f"The prices of {prices.name!r} are invalid: {wrong}.")
    return prices


def _wrong_fields(prices: Prices) -> Iterator[str]:
    amounts: dict[str, Decimal | int] = {
        name: getattr(prices, name)
        for name in (
            *("storage_per_gb_month", "egress_per_gb", "free_storage_gb", "free_egress_gb"),
            "free_egress_times_stored",
        )
    }
    for call_class, price in prices.calls.items():
        amounts[f"calls.{call_class}.per_1000"] = price.per_1000
        amounts[f"calls.{call_class}.free_per_day"] = price.free_per_day
    for name, amount in amounts.items():
        if not (Decimal(amount).is_finite() and amount >= 0):
            yield f"{name} is {amount}, not 0 or more"
    if prices.gb_bytes < 1:
        yield f"gb_bytes is {prices.gb_bytes}, not 1 or more"
    if not prices.currency.strip():
        yield "currency is blank"


def _problem(place: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(map(str, place))}: {message[:1].lower()}{message[1:]}"
