"""The arithmetic of a rate limit, on a clock of the test."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage._token_bucket import TokenBucket


def sent_until(bucket: TokenBucket, start: float, end: float) -> list[float]:
    """Take a token whenever there is one, and return when."""
    now, taken = start, []
    while now < end:
        wait = bucket.take(now)
        if wait == 0.0:
            taken.append(now)
        # A clock has a resolution: a timer fires a little later than asked for.
        now += wait + 1e-9 if wait else 0.0
    return taken


def test_a_full_bucket_gives_the_burst_and_then_the_rate() -> None:
    taken = sent_until(TokenBucket(10.0, 5, 100.0), 100.0, 102.0)
    assert taken[:5] == [100.0] * 5
    assert taken[5:] == pytest.approx(
        [100.0 + number / 10 for number in range(1, 21)][: len(taken) - 5], abs=1e-6
    )
    assert len(taken) in (24, 25)


def test_a_quiet_time_saves_no_more_than_the_burst() -> None:
    bucket = TokenBucket(10.0, 5, 0.0)
    assert sent_until(bucket, 3600.0, 3600.01) == [3600.0] * 5


def test_the_rate_halves_once_a_second_and_drops_what_was_saved() -> None:
    bucket = TokenBucket(100.0, 10, 0.0)
    for _ in range(20):
        bucket.halve(0.0)
    assert bucket.rate(0.0) == 50.0
    assert bucket.take(0.0) == pytest.approx(1 / 50)
    bucket.halve(0.99)
    assert bucket.rate(0.99) > 50.0
    bucket.halve(1.0)
    assert bucket.rate(1.0) == pytest.approx((50.0 + 100.0 / 60) / 2)


def test_the_rate_grows_back_evenly_and_no_further() -> None:
    bucket = TokenBucket(120.0, 10, 0.0)
    bucket.halve(0.0)
    assert [bucket.rate(now) for now in (0.0, 5.0, 10.0, 30.0, 31.0, 1000.0)] == pytest.approx(
        [60.0, 70.0, 80.0, 120.0, 120.0, 120.0]
    )


def test_what_is_gained_while_the_rate_grows_is_its_mean() -> None:
    # 60 a second at first and 80 after ten seconds, whether it is asked once or often.
    for steps in (1, 7, 1000):
        bucket = TokenBucket(120.0, 10_000, 0.0)
        bucket.halve(0.0)
        for step in range(1, steps + 1):
            bucket.rate(10.0 * step / steps)
        assert len(sent_until(bucket, 10.0, 10.0 + 1e-6)) in (699, 700)


def test_a_server_that_is_never_content_is_still_asked() -> None:
    bucket = TokenBucket(64.0, 10, 0.0)
    for second in range(1000):
        bucket.halve(float(second))
    assert 1.0 <= bucket.rate(999.0) <= 1.1


def test_another_rate_keeps_the_proportion_of_a_halved_one() -> None:
    bucket = TokenBucket(100.0, 10, 0.0)
    bucket.halve(0.0)
    bucket.change(40.0, 4, 0.0)
    assert bucket.rate(0.0) == 20.0
    assert bucket.rate(1000.0) == 40.0
    assert len(sent_until(bucket, 1000.0, 1000.001)) == 4


def test_a_token_that_is_given_back_is_there_again() -> None:
    bucket = TokenBucket(1.0, 1, 0.0)
    assert bucket.take(0.0) == 0.0
    bucket.give_back()
    bucket.give_back()
    assert bucket.take(0.0) == 0.0
    assert bucket.take(0.0) == 1.0


def test_a_clock_that_steps_back_gains_nothing() -> None:
    bucket = TokenBucket(1.0, 1, 10.0)
    assert bucket.take(10.0) == 0.0
    assert bucket.take(5.0) == 1.0
    assert bucket.take(11.0) == 0.0


@given(
    rate=st.floats(0.001, 1e6),
    burst=st.integers(1, 1000),
    steps=st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=50),
)
def test_no_more_is_sent_than_the_rate_allows(
    rate: float, burst: int, steps: list[tuple[float, bool]]
) -> None:
    bucket, now, taken = TokenBucket(rate, burst, 0.0), 0.0, 0
    for pause, halve in steps:
        now += pause
        if halve:
            bucket.halve(now)
        for _ in range(5):
            wait = bucket.take(now)
            assert wait >= 0.0
            taken += wait == 0.0
        assert rate / 64 * 0.999 <= bucket.rate(now) <= rate
    assert taken <= burst + rate * now * (1 + 1e-9) + 1e-6
