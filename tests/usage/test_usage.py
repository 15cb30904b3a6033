"""An operator learns what is stored, by folder, call and month, in bounded memory."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage import AccessDeniedError, BackblazeStorage, InvalidInputError
from careflow_storage.errors import MissingExtraError, StorageError
from careflow_storage.testing import B2Server
from careflow_storage.usage import AWS_S3, B2_TODAY, Stored, UsageReport, draw_growth
from careflow_storage.usage.chart import _months
from careflow_storage.usage.sizes import decimal_size
from careflow_storage.usage.tally import FILE, HIDDEN, Groups, call_of, folder_of, grouped
from tests.support.usage_reports import a_report

PART = bytes(5_000_000)


@pytest.fixture(scope="module")
def b2() -> Iterator[B2Server]:
    with B2Server() as server:
        yield server


async def fill(storage: BackblazeStorage) -> None:
    """Two calls, one of them with an older version and a hidden file; a file at the root."""
    await storage.upload_file("recordings/CA1/1-a.webm", b"old, and 16 long")
    await storage.upload_file("recordings/CA1/1-a.webm", b"x" * 100)
    await storage.upload_file("recordings/CA1/2-b.webm", b"x" * 30)
    await storage.delete_file("recordings/CA1/2-b.webm")
    await storage.upload_file("recordings/CA2/1-c.webm", b"x" * 1000)
    await storage.upload_file("exports/2026.csv", b"x" * 7)
    await storage.upload_file("readme.txt", b"x" * 3)


async def begin(storage: BackblazeStorage, key: str, *parts: bytes) -> str:
    client = await storage.client()
    where: dict[str, Any] = {"Bucket": storage.settings.bucket_name, "Key": key}
    upload_id: str = (await client.create_multipart_upload(**where))["UploadId"]
    for number, content in enumerate(parts, start=1):
        await client.upload_part(**where, UploadId=upload_id, PartNumber=number, Body=content)
    return upload_id


async def counted_by_kind(storage: BackblazeStorage) -> None:
    await fill(storage)
    await begin(storage, "recordings/CA2/2-d.webm", PART, b"end")
    await begin(storage, "recordings/CA9/1-e.webm", b"only")
    report = await storage.admin.usage()
    assert report.complete
    assert report.total == Stored(
        files=4,
        bytes=1110,
        hidden_versions=2,
        hidden_bytes=46,
        delete_markers=1,
        unfinished_uploads=2,
        unfinished_bytes=5_000_007,
    )
    assert report.total.billed_bytes == 1110 + 46 + 5_000_007
    assert list(report.by_folder) == ["recordings/", "exports/", ""]
    assert report.folders == 3
    assert report.by_folder["recordings/"].billed_bytes == 1100 + 46 + 5_000_007
    assert report.by_folder[""] == Stored(files=1, bytes=3)
    assert list(report.by_call) == ["CA2", "CA1", "CA9"]
    assert report.calls == 3
    assert report.by_call["CA1"] == Stored(
        files=1, bytes=100, hidden_versions=2, hidden_bytes=46, delete_markers=1
    )
    assert report.by_call["CA9"] == Stored(unfinished_uploads=1, unfinished_bytes=4)
    # moto begins all uploads in November 2010.
    this_month = report.by_month[f"{report.measured_at:%Y-%m}"]
    assert (this_month.files, this_month.bytes, this_month.hidden_bytes) == (4, 1110, 46)
    assert sum(month.unfinished_bytes for month in report.by_month.values()) == 5_000_007


async def test_files_hidden_versions_and_unfinished_uploads_are_counted_apart(
    storage: BackblazeStorage,
) -> None:
    await counted_by_kind(storage)


async def test_a_real_server_is_counted_the_same(seaweed_storage: BackblazeStorage) -> None:
    await counted_by_kind(seaweed_storage)


async def test_only_what_is_below_the_prefix_counts(storage: BackblazeStorage) -> None:
    await fill(storage)
    report = await storage.admin.usage("recordings/")
    assert report.prefix == "recordings/"
    assert report.total.files == 2
    assert list(report.by_folder) == ["recordings/CA2/", "recordings/CA1/"]
    assert set(report.by_call) == {"CA1", "CA2"}
    half = await storage.admin.usage("recordings/CA2/1")
    assert half.by_folder == {"recordings/CA2/1": Stored(files=1, bytes=1000)}


async def test_an_empty_bucket_is_a_report_of_nothing(storage: BackblazeStorage) -> None:
    report = await storage.admin.usage()
    assert report.total == Stored()
    assert (report.by_folder, report.by_call, report.by_month) == ({}, {}, {})
    assert UsageReport.model_validate_json(report.model_dump_json()) == report


async def test_only_the_largest_are_named_and_all_are_counted(storage: BackblazeStorage) -> None:
    await fill(storage)
    report = await storage.admin.usage(top=1)
    assert list(report.by_call) == ["CA2"]
    assert list(report.by_folder) == ["recordings/"]
    assert (report.calls, report.folders) == (2, 3)


@pytest.mark.parametrize("top", [0, -1, True, 1.5, 10**9])
async def test_a_wrong_top_is_refused_before_any_request(
    storage: BackblazeStorage, top: Any
) -> None:
    with pytest.raises(InvalidInputError, match="top must be"):
        await storage.admin.usage(top=top)
    assert storage.request_counts() == {}


async def test_a_reading_key_gets_the_numbers_and_a_note(b2: B2Server) -> None:
    b2.reset()
    async with BackblazeStorage(b2.settings()) as storage:
        await fill(storage)
        await begin(storage, "recordings/CA2/2-d.webm", b"12345")
        await begin(storage, "recordings/CA2/3-e.webm", b"12345")
    key = b2.create_key(capabilities={"listFiles", "readFiles", "listBuckets"})
    b2.requests.clear()
    async with BackblazeStorage(b2.settings(key=key)) as storage:
        report = await storage.admin.usage()
    assert report.total.files == 4
    assert report.total.unfinished_uploads == 2
    assert report.total.unfinished_bytes == 0
    assert not report.complete
    assert "The bytes of 2 of the unfinished uploads are not counted" in report.notes[0]
    assert "writeFiles" in report.notes[0]


async def test_a_server_that_lists_no_uploads_leaves_the_rest_to_count(b2: B2Server) -> None:
    b2.reset()
    async with BackblazeStorage(b2.settings()) as storage:
        await fill(storage)
        b2.faults.always("ListMultipartUploads", status=403, code="AccessDenied")
        report = await storage.admin.usage()
    assert report.total.files == 4
    assert "Unfinished uploads are not counted" in report.notes[0]


async def test_a_key_that_may_not_list_is_refused(b2: B2Server) -> None:
    b2.reset()
    key = b2.create_key(capabilities={"readFiles", "writeFiles"})
    async with BackblazeStorage(b2.settings(key=key)) as storage:
        with pytest.raises(AccessDeniedError):
            await storage.admin.usage()


# --- adding up ----------------------------------------------------------------------------

_keys = st.lists(
    st.tuples(
        st.sampled_from(["a", "a-b", "a/1", "a/2/x", "b/1", "b!", "recordings/C1/x", "z/"]),
        st.sampled_from([FILE, HIDDEN]),
        st.integers(0, 10**6),
    ),
    max_size=60,
)


@given(_keys, st.integers(1, 7), st.integers(1, 10), st.booleans())
def test_groups_are_exact_for_any_listing_in_order_and_any_pages(
    rows: list[tuple[str, int, int]], page: int, top: int, hidden_last: bool
) -> None:
    rows.sort(key=lambda row: row[0])
    folders = Groups(top, {})
    for start in range(0, len(rows), page):
        some = rows[start : start + page]
        if hidden_last:
            some.sort(key=lambda row: row[1])
        folders.page(grouped(some, lambda key: folder_of(key, "") or None))
    sizes: dict[str, int] = defaultdict(int)
    for key, _, size in rows:
        if folder := folder_of(key, ""):
            sizes[folder] += size
    found = folders.finish()
    assert folders.count == len(sizes)
    assert [each.billed_bytes for each in found.values()] == sorted(sizes.values())[::-1][:top]
    assert all(sizes[name] == each.billed_bytes for name, each in found.items())


@pytest.mark.parametrize(
    ("key", "call"),
    [
        ("recordings/CA1/1-a.webm", "CA1"),
        ("recordings/CA1", None),
        ("recordings//x", None),
        ("other/CA1/x", None),
        ("recordings/ü/x", "ü"),
    ],
)
def test_the_call_is_the_folder_of_a_recording(key: str, call: str | None) -> None:
    assert call_of(key) == call


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (12_345_678, "12.3 MB"),
        (1_500_000_000_000_000, "1,500.0 TB"),
    ],
)
def test_sizes_are_decimal_as_bills_are(count: int, text: str) -> None:
    assert decimal_size(count) == text


# --- the chart ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("prices", [None, B2_TODAY, AWS_S3], ids=["bytes", "b2", "aws"])
async def test_the_growth_becomes_a_png(tmp_path: Path, prices: Any) -> None:
    months = {
        "2025-11": Stored(files=1, bytes=10**9, hidden_bytes=5 * 10**8),
        "2026-02": Stored(files=2, bytes=10**12, unfinished_bytes=10**10),
    }
    path = await draw_growth(a_report(months), tmp_path / "growth.png", prices=prices)
    image = path.read_bytes()
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    assert (int.from_bytes(image[16:20]), int.from_bytes(image[20:24])) == (1600, 896)


@pytest.mark.slow
async def test_a_chart_of_nothing_or_of_a_hostile_calendar_is_drawn_too(tmp_path: Path) -> None:
    nothing = await draw_growth(a_report({}), tmp_path / "nothing.png")
    assert nothing.stat().st_size > 1000
    ages = a_report({"0001-01": Stored(bytes=5), "9999-12": Stored(bytes=1)}, bucket="$x$ ^")
    assert (await draw_growth(ages, tmp_path / "ages.PNG")).stat().st_size > 1000
    assert len(_months(ages)) == 120


def test_the_chart_adds_up_and_leaves_no_month_out() -> None:
    months = _months(a_report({"2025-11": Stored(bytes=5), "2026-02": Stored(bytes=1)}))
    assert [month.name for month in months] == ["Nov 2025", "Dec 2025", "Jan 2026", "Feb 2026"]
    assert [month.totals[0] for month in months] == [5, 5, 5, 6]


@pytest.mark.slow
async def test_a_chart_that_cannot_be_written_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = a_report({"2025-11": Stored(bytes=5)})
    with pytest.raises(InvalidInputError, match=r"path must end with \.png"):
        await draw_growth(report, tmp_path / "growth.svg")
    with pytest.raises(InvalidInputError, match="does not exist"):
        await draw_growth(report, tmp_path / "none" / "growth.png")
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        await draw_growth(report, tmp_path / "taken.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="charts"):
        await draw_growth(report, tmp_path / "growth.png")
    assert not (tmp_path / "growth.png").exists()
