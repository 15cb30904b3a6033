"""What a request sends."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol


class Body(Protocol):
    """The bytes of a request, readable again for every attempt.

    ``size`` is in bytes; ``slices()`` yields exactly that many, in pieces that are small enough
    to be written at once.
    """

    @property
    def size(self) -> int:
        """How many bytes."""

    def slices(self) -> AsyncGenerator[bytes | memoryview]:
        """Yield them, from the first one on."""
