"""Dates that other programs have written: read where they are dates, else None, never an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage import BackblazeStorage, ServerResponseError
from careflow_storage._dates import parse_date
from careflow_storage._s3.xml.documents import timestamp
from careflow_storage._transfer.remote.signed_urls import refusal_of
from tests.support.hostile import HostileServer

# Years that no calendar or no C integer has, in the zone that is written or in UTC.
HOSTILE = [
    "Fri, 31 Dec 9999 23:59:59 -2359",
    "Tue, 1 Jan 99999999999999999999 00:00:00 +0000",
    "99999999999 Jan 1:2 1 20 - < [",
    "Tue, 1 Jan 2020 00:00:00 +99999999999",
    "yesterday",
    "",
]
PIECES = ["Mon,", "1", "Jan", "2020", "9" * 20, "0001", "1:2", "00:00:00", "-2359", "GMT", "(", "<"]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_date_is_none(text: str) -> None:
    assert parse_date(text) is None


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=8).map(" ".join))
def test_no_text_is_an_error(text: str) -> None:
    parse_date(text)


@pytest.mark.parametrize("text", [*HOSTILE, "0001-01-01T00:00:00+23:59"])
def test_a_listing_with_such_a_date_is_malformed(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        timestamp(text)


@pytest.mark.parametrize(
    "query",
    [
        {"X-Amz-Date": "00010101T000000+2359", "X-Amz-Expires": "1", "X-Amz-Signature": "x"},
        {"X-Amz-Date": "20200101T000000Z", "X-Amz-Expires": "9" * 20, "X-Amz-Signature": "x"},
        {"Expires": "9" * 30, "Signature": "x"},
        {"se": "0001-01-01T00:00:00+23:59", "sig": "x"},
    ],
)
def test_a_presigned_url_with_such_a_date_is_refused_by_the_server_alone(
    query: dict[str, str],
) -> None:
    refusal = refusal_of(query, timestamp("2026-11-23T12:00:00Z"))
    assert refusal is not None
    assert refusal[0] == "the server refuses the presigned URL"


@pytest.mark.parametrize("text", HOSTILE[:4])
async def test_an_object_with_such_a_date_is_a_malformed_response(text: str) -> None:
    head = f'HTTP/1.1 200 OK\r\nETag: "{"a" * 32}"\r\nContent-Length: 5\r\nLast-Modified: {text}'
    async with (
        HostileServer(lambda _: f"{head}\r\n\r\nhello".encode()) as server,
        BackblazeStorage(server.settings(retry_attempts=1)) as storage,
    ):
        with pytest.raises(ServerResponseError):
            await storage.get_file_metadata("k")
