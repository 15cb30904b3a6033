"""The body of a request."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol


class Body(Protocol):
    """The bytes of a request, readable again for every attempt.

    ``slices()`` yields exactly ``size`` bytes, in pieces small enough for one write.
    """

    @property
    def size(self) -> int:
        """The number of bytes."""

    def slices(self) -> AsyncGenerator[bytes | memoryview]:
        """Yield all bytes, from the first one."""
