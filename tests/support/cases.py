"""Cases that share one test, since each would spend its time on the same preparation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def case(name: str) -> Iterator[None]:
    """Name the case in what it raises."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"The case: {name}")
        raise
