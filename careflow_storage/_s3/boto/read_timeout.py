"""How long a response of the control plane may be silent, where one call is slower than others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_seconds: ContextVar[float | None] = ContextVar("_seconds", default=None)


@contextmanager
def response_timeout(seconds: float) -> Iterator[None]:
    """Let responses within be silent for so long, whatever the session's own timeout is."""
    token = _seconds.set(seconds)
    try:
        yield
    finally:
        _seconds.reset(token)


def seconds_of_this_call() -> float | None:
    """Return what the call under way was given, if it is."""
    return _seconds.get()


def is_own_call() -> bool:
    """Whether the control plane makes the call under way, not a user of the lent client."""
    return _seconds.get() is not None
