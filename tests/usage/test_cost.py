"""An operator learns what storage costs, what it would cost elsewhere, and when it is too much."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage import BackblazeStorage, InvalidInputError
from careflow_storage.usage import (
    AWS_S3,
    B2_GUIDE,
    B2_TODAY,
    Alert,
    CallPrice,
    Prices,
    Stored,
    Thresholds,
    check_thresholds,
    classes,
    compare,
    estimate,
    load_prices,
    watch,
)
from careflow_storage.usage.cost import CLASS_OF
from tests.support.usage_reports import a_report

GB = 10**9
TB = 10**12

REPORT = a_report(
    {
        "2026-10": Stored(files=9, bytes=700 * GB, hidden_versions=2, hidden_bytes=200 * GB),
        "2026-11": Stored(unfinished_uploads=3, unfinished_bytes=100 * GB),
    }
)


# --- estimates ----------------------------------------------------------------------------


def test_a_terabyte_on_b2_costs_its_list_price_less_the_free_ten_gigabytes() -> None:
    assert estimate(TB).total == Decimal("6.8805")
    assert estimate(REPORT).total == Decimal("6.8805")
    assert estimate(10 * GB).total == 0
    assert estimate(TB, B2_GUIDE).total == Decimal(5)


def test_downloads_are_free_up_to_three_times_what_is_stored() -> None:
    assert estimate(TB, downloaded_bytes=3 * TB).cost_of("download") == 0
    assert estimate(TB, downloaded_bytes=3 * TB + 50 * GB).cost_of("download") == Decimal("0.5")
    assert estimate(0, downloaded_bytes=GB).cost_of("download") == Decimal("0.01")


def test_aws_counts_binary_gigabytes() -> None:
    cost = estimate(2**40, AWS_S3, downloaded_bytes=2**40)
    assert cost.cost_of("storage") == Decimal("23.552")
    assert cost.cost_of("download") == Decimal("83.16")


def test_calls_are_priced_by_class_beyond_those_of_each_day_that_are_free() -> None:
    prices = B2_TODAY.model_copy(
        update={"calls": {"C": CallPrice(per_1000=Decimal("0.004"), free_per_day=2500)}}
    )
    requests = {"ListObjectsV2": 100_000, "PutObject": 10**6, "GetObject": 10**6}
    cost = estimate(0, prices, requests=requests)
    assert cost.cost_of("calls") == Decimal("0.1")
    assert {item.call_class: item.free for item in cost.items if item.what == "calls"} == {
        "A": 0,
        "B": 0,
        "C": 75_000,
    }


@given(st.integers(0, 10**18), st.integers(0, 10**18), st.integers(0, 10**12))
def test_the_total_is_the_sum_of_the_rounded_items(stored: int, down: int, gets: int) -> None:
    cost = estimate(stored, AWS_S3, downloaded_bytes=down, requests={"GetObject": gets})
    assert cost.total == sum(item.cost for item in cost.items)
    for item in cost.items:
        assert item.cost == item.cost.quantize(Decimal("0.0001"))
        assert 0 <= item.free <= item.quantity
        exact = (item.quantity - item.free) * item.price / item.per
        assert abs(item.cost - exact) <= Decimal("0.00005")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"stored": -1}, "stored"),
        ({"stored": 1.5}, "stored"),
        ({"stored": 1, "downloaded_bytes": -1}, "downloaded_bytes"),
        ({"stored": 1, "requests": {"GetObject": -1}}, r"requests\['GetObject'\]"),
    ],
)
def test_a_number_that_cannot_be_is_refused_by_name(arguments: Any, named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        estimate(**arguments)


def test_the_estimate_shows_the_savings_over_aws() -> None:
    both = compare(REPORT, downloaded_bytes=100 * GB, requests={"PutObject": 1_000_000})
    assert (both.here.prices, both.there.prices) == ("Backblaze B2", "AWS S3")
    assert both.saved == both.there.total - both.here.total
    assert both.saved_percent_on_storage == Decimal("67.9")
    assert both.saved_percent_on_downloads is None
    assert both.saved_percent == Decimal("74.0")
    assert compare(0).saved_percent is None


def test_prices_in_two_currencies_are_not_compared() -> None:
    euros = AWS_S3.model_copy(update={"currency": "EUR"})
    with pytest.raises(InvalidInputError, match="USD and EUR"):
        compare(1, there=euros)


async def test_every_request_that_the_storage_sends_has_its_class(
    storage: BackblazeStorage,
) -> None:
    await storage.upload_file("a", b"x")
    await storage.get_file("a")
    await storage.get_file_metadata("a")
    await storage.list_files()
    await storage.delete_files(["a"])
    await storage.admin.usage()
    counts = storage.request_counts()
    assert counts.keys() <= CLASS_OF.keys()
    assert classes(counts) == {"A": 2, "B": 2, "C": 3, "D": 0}


def test_an_operation_that_no_list_names_counts_as_the_dearest_class() -> None:
    assert classes({"GetSomethingNew": 5}) == {"A": 0, "B": 0, "C": 5, "D": 0}


# --- prices -------------------------------------------------------------------------------

OWN = """
name = "Our contract"
currency = "EUR"
as_of = 2026-11-01
source = "contract 4711"
storage_per_gb_month = 0.00611
egress_per_gb = 0
[calls.B]
per_1000 = 0.0004
free_per_day = 2500
"""


def test_prices_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prices.toml").write_text(OWN)
    prices = load_prices(tmp_path / "prices.toml")
    assert prices.storage_per_gb_month == Decimal("0.00611")
    assert prices.as_of == date(2026, 11, 1)
    assert prices.calls == {"B": CallPrice(per_1000=Decimal("0.0004"), free_per_day=2500)}
    assert load_prices() == B2_TODAY
    (tmp_path / ".env").write_text("BACKBLAZE_PRICES_FILE=prices.toml\n")
    assert load_prices() == prices
    monkeypatch.setenv("BACKBLAZE_PRICES_FILE", str(tmp_path / "none.toml"))
    with pytest.raises(InvalidInputError, match=r"none\.toml cannot be read"):
        load_prices()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (('currency = "EUR"\n', ""), "currency: field required"),
        (("as_of = 2026-11-01\n", ""), "as_of: field required"),
        (("0.00611", "-1"), "storage_per_gb_month is -1"),
        (("0.00611", "nan"), "storage_per_gb_month"),
        (("per_1000 = 0.0004", "per_1000 = -2"), "calls.B.per_1000 is -2"),
        (("[calls.B]", "[calls.X]"), "calls.X"),
        (("egress_per_gb", "egres_per_gb"), "egress_per_gb: field required; egres_per_gb"),
        (("name =", "name"), "not TOML"),
    ],
)
def test_what_is_wrong_with_a_file_of_prices_is_named(
    tmp_path: Path, change: tuple[str, str], named: str
) -> None:
    (tmp_path / "prices.toml").write_text(OWN.replace(*change))
    with pytest.raises(InvalidInputError, match=named):
        load_prices(tmp_path / "prices.toml")


def test_own_prices_that_cannot_be_are_refused() -> None:
    prices = Prices(
        name="mine",
        currency=" ",
        as_of=date(2026, 1, 1),
        source="",
        storage_per_gb_month=Decimal(1),
        egress_per_gb=Decimal(1),
        gb_bytes=0,
    )
    with pytest.raises(InvalidInputError, match=r"gb_bytes is 0.*; currency is blank"):
        estimate(1, prices)


@pytest.mark.parametrize("wrong", [None, "b2", 0], ids=repr)
def test_what_is_no_prices_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match="prices must be Prices"):
        estimate(1, wrong)


# --- thresholds ---------------------------------------------------------------------------


def test_a_value_above_its_limit_raises_an_alert_with_a_sentence() -> None:
    alerts = check_thresholds(
        REPORT,
        Thresholds(bytes=999 * GB, monthly_cost=Decimal(5), unfinished_bytes=GB, hidden_share=0.1),
    )
    assert [alert.what for alert in alerts] == [
        "bytes",
        "monthly_cost",
        "unfinished_bytes",
        "hidden_share",
    ]
    assert [alert.measured for alert in alerts] == [TB, Decimal("6.8805"), 100 * GB, Decimal("0.2")]
    assert alerts[0].sentence == "bucket/ stores 1.00 TB, more than 999.0 GB."
    assert alerts[1].sentence == "bucket/ costs about 6.8805 USD a month, more than 5.00."
    assert "100.0 GB of 3 unfinished uploads" in alerts[2].sentence
    assert alerts[3].sentence.startswith("20% of the bytes of bucket/ are hidden versions")


def test_a_value_at_its_limit_or_without_one_raises_no_alert() -> None:
    limits = Thresholds(
        bytes=TB, monthly_cost=Decimal("6.8805"), unfinished_bytes=100 * GB, hidden_share=0.2
    )
    assert check_thresholds(REPORT, limits) == []
    assert check_thresholds(REPORT, Thresholds()) == []
    assert check_thresholds(a_report({}), Thresholds(bytes=0, hidden_share=0.0)) == []


@pytest.mark.parametrize(
    ("thresholds", "named"),
    [
        (Thresholds(bytes=-1), r"thresholds\.bytes"),
        (Thresholds(monthly_cost=Decimal(-1)), r"thresholds\.monthly_cost"),
        (Thresholds(hidden_share=1.1), r"thresholds\.hidden_share"),
        (Thresholds(hidden_share=float("nan")), r"thresholds\.hidden_share"),
    ],
)
async def test_a_threshold_that_cannot_be_is_refused_before_any_request(
    storage: BackblazeStorage, thresholds: Thresholds, named: str
) -> None:
    with pytest.raises(InvalidInputError, match=named):
        await watch(storage, thresholds, print)
    assert storage.request_counts() == {}


def test_a_threshold_of_an_unknown_value_is_refused() -> None:
    unknown = a_report({}, notes=("Unfinished uploads are not counted.",))
    assert check_thresholds(unknown, Thresholds(bytes=1)) == []
    with pytest.raises(InvalidInputError, match="unfinished_bytes cannot be checked"):
        check_thresholds(unknown, Thresholds(unfinished_bytes=1))


async def test_a_watch_passes_each_alert_to_a_function_or_a_coroutine(
    storage: BackblazeStorage,
) -> None:
    await storage.upload_file("calls/a", b"x" * 10)
    reported: list[Alert] = []

    async def report(alert: Alert) -> None:
        reported.append(alert)

    limits = Thresholds(bytes=9)
    assert await watch(storage, limits, report) == reported
    assert [alert.measured for alert in reported] == [10]
    assert await watch(storage, limits, reported.append, prefix="calls/") == reported[1:]
    assert await watch(storage, limits, reported.append, prefix="other/") == []
    assert len(reported) == 2
    failure = RuntimeError("the pager is off")

    def fail(_: Alert) -> None:
        raise failure

    with pytest.raises(RuntimeError, match="the pager is off"):
        await watch(storage, limits, fail)
