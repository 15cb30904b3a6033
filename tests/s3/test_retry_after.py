"""``Retry-After`` is obeyed in all its forms, by the server's own clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage import BackblazeStorage, ServiceUnavailableError, SourceError
from careflow_storage._retry_after import http_date, seconds_to_wait
from tests.support.hostile import HostileServer, raw_response
from tests.support.url_source import Source, store

NOW = "Sun, 06 Nov 1994 08:49:37 GMT"
FORMS = {
    "IMF-fixdate": "%a, %d %b %Y %H:%M:%S GMT",
    "RFC 850": "%A, %d-%b-%y %H:%M:%S GMT",
    "asctime": "%a %b {day:2d} %H:%M:%S %Y",
}


def written(moment: datetime, form: str) -> str:
    return moment.strftime(FORMS[form].format(day=moment.day))


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7\t", 7.0),
        ("0007", 7.0),
        ("0" * 20 + "7", 7.0),
        ("-5", 0.0),
        ("9" * 5000, 999_999_999.0),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60.0),
        ("Sun Nov  6 08:50:37 1994", 60.0),
        ("Sun, 06 Nov 1994 08:49:60 GMT", 22.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("1.5", None),
        ("+5", None),
        ("1e3", None),
        ("5 seconds", None),
        ("\u0665", None),
        ("\xb2", None),
        ("5\xa0", None),
        ("5, 7", None),
        ("Sun, 06 Nov 1994 08:50:37 CET", None),
        ("Sun, 31 Feb 1994 08:50:37 GMT", None),
        ("06 Nov 1994 08:50:37 GMT", None),
    ],
)
def test_what_a_server_asks_for(given: str | None, seconds: float | None) -> None:
    assert seconds_to_wait(given, NOW) == seconds


@given(
    st.integers(946_684_800, 3_155_760_000).map(lambda since: datetime.fromtimestamp(since, UTC)),
    st.integers(-100_000, 100_000),
    st.sampled_from(sorted(FORMS)),
    st.sampled_from(sorted(FORMS)),
)
def test_a_date_is_a_distance_from_the_date_of_the_response(
    now: datetime, seconds: int, form: str, form_of_now: str
) -> None:
    then = now + timedelta(seconds=seconds)
    assert seconds_to_wait(written(then, form), written(now, form_of_now)) == max(0, seconds)


@pytest.mark.parametrize(("ahead", "read"), [(0, 0), (50, 50), (51, -49), (99, -1)])
def test_two_digits_of_a_year_mean_at_most_50_years_ahead(ahead: int, read: int) -> None:
    this = datetime.now(UTC).year
    date = http_date(f"Sunday, 06-Nov-{(this + ahead) % 100:02} 08:49:37 GMT")
    assert date is not None
    assert date.year == this + read


def test_without_a_date_the_clock_of_this_machine_counts() -> None:
    for date in (None, "", "yesterday"):
        then = datetime.now(UTC) + timedelta(hours=1)
        asked = seconds_to_wait(written(then, "IMF-fixdate"), date)
        assert asked is not None
        assert 3500 < asked <= 3600


@given(st.text(max_size=40))
def test_any_text_is_a_date_or_none(text: str) -> None:
    assert http_date(text) is None or any(char.isdigit() for char in text)
    seconds = seconds_to_wait(text, text)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize("form", FORMS)
async def test_a_date_too_far_off_comes_out_at_once_and_the_caller_may_schedule(form: str) -> None:
    # Its clock is years behind ours: only the distance counts.
    then = datetime(2001, 3, 4, 5, 6, 7, tzinfo=UTC)
    busy = raw_response(
        b"",
        "503 Service Unavailable",
        Date=written(then, "IMF-fixdate"),
        Retry_After=written(then + timedelta(seconds=900), form),
    )
    async with (
        HostileServer(lambda _: busy) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        with pytest.raises(ServiceUnavailableError) as caught:
            await storage.get_file("k")
        assert caught.value.retry_after == 900.0
        assert len(server.asked) == 1


async def test_a_source_may_give_a_date_too(storage: BackblazeStorage) -> None:
    async def response(_: web.Request) -> web.Response:
        return web.Response(
            status=503, headers={"Date": NOW, "Retry-After": "Sunday, 06-Nov-94 09:49:37 GMT"}
        )

    async with Source(routes={"/call": response}) as source:
        with pytest.raises(SourceError) as caught:
            await store(storage, source.url)
        assert caught.value.retry_after == 3600.0
        assert len(source.asked) == 1
