"""Tickets: only a server with the secret can issue them, and every change is detected."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage.browser import ExpiredTicketError, InvalidTicketError
from careflow_storage.browser.tickets import LEEWAY, Ticket, TicketSigner
from careflow_storage.errors import InvalidInputError

SECRET = "a secret of sixteen bytes or more"
NOW = datetime(2026, 11, 28, tzinfo=UTC)
TICKET = Ticket(
    key="recordings/CA1/1-a.webm",
    size=10,
    content_type="audio/webm",
    upload_id="id",
    part_size=5,
    marker="marker",
    metadata={"place": "größe"},
    subject="user 1",
    expires=int(NOW.timestamp()),
)
signer = TicketSigner(SECRET)

texts = st.text(max_size=50)
tickets = st.builds(
    Ticket,
    key=texts,
    size=st.integers(0, 10**14),
    content_type=texts,
    upload_id=st.none() | texts,
    part_size=st.integers(0, 10**10),
    marker=texts,
    metadata=st.dictionaries(texts, texts, max_size=3),
    subject=st.none() | texts,
    expires=st.integers(0, 10**10),
)


@given(tickets)
def test_a_ticket_returns_as_it_was_issued(ticket: Ticket) -> None:
    now = datetime.fromtimestamp(ticket.expires, UTC) - timedelta(seconds=1)
    text = signer.issue(ticket)
    assert signer.verify(text, subject=ticket.subject, now=now) == ticket
    assert text.replace("-", "").replace("_", "").replace(".", "").isalnum()


@given(st.data())
def test_a_changed_ticket_is_refused(data: st.DataObject) -> None:
    text = signer.issue(TICKET)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda each: each != text[place]))
    with pytest.raises(InvalidTicketError):
        signer.verify(text[:place] + other + text[place + 1 :], subject="user 1", now=NOW)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: base64.b64encode(b).decode()))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidTicketError):
        signer.verify(text, subject=None)


@pytest.mark.parametrize("wrong", ["", ".", "a.b", "a" * 10_000, 5, None, b"a.b"])
def test_what_is_no_ticket_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidTicketError):
        signer.verify(wrong, subject=None)


@pytest.mark.parametrize("subject", [None, "", "user 2", "user"])
def test_a_ticket_of_another_subject_is_refused(subject: str | None) -> None:
    with pytest.raises(InvalidTicketError, match="another subject"):
        signer.verify(signer.issue(TICKET), subject=subject, now=NOW)


def test_a_ticket_expires_after_the_leeway_for_other_clocks() -> None:
    text = signer.issue(TICKET)
    almost = NOW + timedelta(seconds=LEEWAY - 1)
    assert signer.verify(text, subject="user 1", now=almost) == TICKET
    with pytest.raises(ExpiredTicketError, match=r"2026-11-28 00:00:00 UTC"):
        signer.verify(text, subject="user 1", now=NOW + timedelta(seconds=LEEWAY))


def test_a_replaced_secret_keeps_its_tickets_valid_and_signs_no_more() -> None:
    old, both = TicketSigner("old" * 10), TicketSigner(["new" * 10, b"old" * 10])
    assert both.verify(old.issue(TICKET), subject="user 1", now=NOW) == TICKET
    with pytest.raises(InvalidTicketError):
        old.verify(both.issue(TICKET), subject="user 1", now=NOW)


@pytest.mark.parametrize("secret", ["short", b"", [], ["long enough for a secret", "short"], [5]])
def test_a_secret_that_is_too_short_is_refused(secret: str) -> None:
    with pytest.raises(InvalidInputError, match="secret"):
        TicketSigner(secret)


def test_a_ticket_that_fits_into_no_url_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="characters"):
        signer.issue(Ticket("k", 1, "a/b", None, 0, "m", {"a": "b" * 5000}, None, 0))
