"""Compare the expected behaviour of B2 with the server's."""

from __future__ import annotations

from careflow_storage._s3.redaction import printable
from careflow_storage.doctor.explain import in_words
from careflow_storage.doctor.models import Outcome, passed, warned
from careflow_storage.doctor.raw_client import Reply

_CAUSE = (
    "This library relies on Backblaze's documents and on reports of its users. Other servers "
    "than B2 may differ."
)
_REPORT = "If this is B2: please report this line to the maintainers of careflow-storage."


def refused_as(reply: Reply, status: int, code: str) -> Outcome:
    """Expect a refusal with this status and code."""
    expected = f"{status} {code}"
    return as_expected(reply, expected, reply.short, expected)


def as_expected(reply: Reply | None, what: str, found: object, expected: object) -> Outcome:
    """Compare a value with the expected one, which ``what`` describes."""
    if found == expected:
        return passed(f"As expected: {what}")
    words = printable(str(found), 120)
    refused = reply is not None and not reply.ok
    why = f" ({in_words(reply.error())})" if reply is not None and refused else ""
    return warned(f"B2 behaves differently: expected {what}, got {words}{why}.", _CAUSE, _REPORT)
