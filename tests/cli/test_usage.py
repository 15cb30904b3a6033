"""What is stored, and what it costs, by the command."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from typer import BadParameter

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.cli.actions.usage import _bar
from careflow_storage.cli.ui.values import parse_amount
from tests.support.command import Command

PRICES = """
name = "Our price"
currency = "EUR"
as_of = 2026-11-01
source = "a contract"
storage_per_gb_month = 1000.0
egress_per_gb = 1.0
"""


@pytest.fixture
def command(settings: StorageSettings) -> Command:
    return Command(settings)


@pytest.fixture
async def filled(storage: BackblazeStorage) -> BackblazeStorage:
    """Two calls, one of them deleted, a file at the root, and an unfinished upload."""
    await storage.upload_recording("CA1", b"x" * 30_000, "a.webm")
    deleted = await storage.upload_recording("CA2", b"x" * 20_000, "b.webm")
    await storage.delete_file(deleted.key)
    await storage.upload_file("index.html", b"x" * 5)
    client = await storage.client()
    where = {"Bucket": storage.settings.bucket_name, "Key": "recordings/CA3/c.webm"}
    upload = await client.create_multipart_upload(**where)
    await client.upload_part(**where, UploadId=upload["UploadId"], PartNumber=1, Body=b"x" * 10_000)
    return storage


async def test_everything_that_is_billed_is_counted(
    command: Command, filled: BackblazeStorage
) -> None:
    ran = await command("usage")
    assert ran.code == 0, ran.err
    rows = {line.partition("  ")[0]: line.split() for line in ran.lines}
    assert rows["files"][1:] == ["2", "30.0", "kB"]
    assert rows["hidden versions"][2:5] == ["1", "20.0", "kB"]
    assert rows["unfinished uploads"][2:5] == ["1", "10.0", "kB"]
    assert rows["billed"][1:] == ["60.0", "kB"]
    assert rows["recordings/"][-2:] == ["60.0", "kB"]
    assert rows["CA2"][-2:] == ["20.0", "kB"]
    assert "of class C" in ran.lines[-1]


async def test_costs_stand_beside_each_other_with_their_dates(
    command: Command, filled: BackblazeStorage
) -> None:
    ran = await command("usage", "--downloaded", "500GB")
    table = ran.out[ran.out.index("a month like this") :].splitlines()
    assert "Backblaze B2" in table[0]
    assert "AWS S3" in table[0]
    assert "B2 in 2023" in table[0]
    assert table[1].count("of 20") == 3
    assert table[3].startswith("downloads")
    assert "less than AWS S3" in table[5]


async def test_json_holds_all_of_it(command: Command, filled: BackblazeStorage) -> None:
    ran = await command("usage", "recordings/", "--downloaded", "500GB", "--json")
    report = ran.json
    assert report["billed_bytes"] == 60_000
    assert report["usage"]["by_call"]["CA1"]["bytes"] == 30_000
    assert [each["prices"] for each in report["costs"]][1] == "AWS S3"
    assert Decimal(report["saved"]["percent"]) > 0
    assert report["requests_by_class"]["C"] == sum(report["requests"].values()) > 0
    assert report["alerts"] == []
    assert ran.err == ""


@pytest.mark.parametrize(
    ("option", "limit", "what"),
    [
        ("--max-bytes", "59kB", "bytes"),
        ("--max-unfinished", "9kB", "unfinished_bytes"),
        ("--max-cost", "0.05", "monthly_cost"),
    ],
)
async def test_a_threshold_that_is_crossed_has_its_exit_code(
    command: Command,
    filled: BackblazeStorage,
    tmp_path: Path,
    option: str,
    limit: str,
    what: str,
) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES)
    ran = await command("usage", option, limit, "--prices", prices, "--json")
    assert ran.code == 5
    assert [each["what"] for each in ran.json["alerts"]] == [what]
    assert "more than" in ran.err
    ran = await command("usage", option, "61kB" if option != "--max-cost" else "1")
    assert ran.code == 0
    assert "more than" not in ran.err


async def test_prices_in_another_currency_stand_alone(
    command: Command, filled: BackblazeStorage, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES)
    ran = await command("usage", "--prices", prices)
    assert "Our price" in ran.out
    assert "in EUR" in ran.out
    assert "AWS" not in ran.out


@pytest.mark.slow
async def test_the_growth_is_drawn(
    command: Command, filled: BackblazeStorage, tmp_path: Path
) -> None:
    chart = tmp_path / "growth.png"
    ran = await command("usage", "--chart", chart)
    assert ran.code == 0
    assert chart.read_bytes().startswith(b"\x89PNG")


async def test_an_empty_bucket_is_measured(command: Command, settings: StorageSettings) -> None:
    ran = await command("usage")
    assert ran.code == 0
    assert "by call" not in ran.out
    assert (await command("usage", "--json")).json["billed_bytes"] == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--chart", "growth.jpg"), "growth.jpg"),
        (("--chart", "no-such-folder/growth.png"), "no-such-folder"),
        (("--max-cost", "cheap"), "cheap"),
        (("--max-cost", "-1"), "-1"),
        (("--max-bytes", "big"), "big"),
        (("--prices", "no-such.toml"), "no-such.toml"),
    ],
)
async def test_bad_options_are_refused_before_measuring(
    command: Command, arguments: tuple[str, ...], expected: str
) -> None:
    ran = await command("usage", *arguments)
    assert ran.code == 2
    assert expected in ran.err
    assert ran.out == ""


@pytest.mark.parametrize(("text", "amount"), [("10", 10), (" 9.50 ", "9.50"), ("0", 0)])
def test_amounts_are_read_in_common_notations(text: str, amount: int | str) -> None:
    assert parse_amount(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "NaN", "Infinity", "-0.01", "1,5", "$1"])
def test_a_text_that_is_not_an_amount_is_refused(text: str) -> None:
    with pytest.raises(BadParameter):
        parse_amount(text)


def test_a_bar_shows_the_smallest_share_and_never_more_than_all() -> None:
    assert _bar(0, unicode=True) == ""
    assert _bar(0.0001, unicode=True) == "▏"
    assert _bar(1, unicode=True) == "█" * 24
    assert _bar(0.5, unicode=False) == "#" * 12
