"""The time that one call of a user may take, retries and pauses included."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import Any, TypeVar

from careflow_storage._in_flight import InFlight
from careflow_storage.errors import InvalidInputError, StorageClosedError, StorageTimeoutError

T = TypeVar("T")


class Deadline:
    """``timeout`` seconds from the first waiting on; None for no end.

    ``where`` is what the error then tells: operation, bucket, key. ``in_flight`` is the storage
    that closing takes it from, for what no `Call` surrounds.

    Raises:
        InvalidInputError: ``timeout`` is not a number of seconds above 0.
    """

    def __init__(
        self, timeout: float | None, in_flight: InFlight | None = None, **where: str | None
    ) -> None:
        if timeout is not None and not is_duration(timeout):
            raise InvalidInputError(
                f"timeout must be a number of seconds above 0, not {timeout!r}.",
                hint="None waits as long as it takes.",
            )
        self.timeout = timeout
        self._in_flight = in_flight
        self._where = where
        self._end: float | None = None

    def scope(self) -> asyncio.Timeout:
        """Return the context manager that ends what is waited for in it."""
        if self._end is None and self.timeout is not None:
            self._end = asyncio.get_running_loop().time() + self.timeout
        return asyncio.timeout_at(self._end)

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Await something; raise `StorageTimeoutError` when the time is up.

        For what is done in several steps between which the caller has the floor, as iterators.
        Raises `StorageClosedError` when the storage is closed meanwhile, or was before.
        """
        if self._in_flight is None:
            return await self._in_time(awaitable)
        if self._in_flight.refuses:
            # Python warns of a coroutine that is not awaited.
            if (close := getattr(awaitable, "close", None)) is not None:
                close()
            where: dict[str, Any] = dict(self._where)
            raise self._in_flight.closed_error(**where)
        running = self._in_flight.enter()
        if running is None:
            return await self._in_time(awaitable)
        try:
            with running:
                return await self._in_time(awaitable)
        except StorageClosedError as error:
            for name, value in self._where.items():
                if getattr(error, name) is None:
                    setattr(error, name, value)
            raise

    async def _in_time(self, awaitable: Awaitable[T]) -> T:
        if self.timeout is None:
            return await awaitable
        scope = self.scope()
        try:
            async with scope:
                return await awaitable
        except TimeoutError as error:
            raise self.explain(scope, error) from error

    def explain(self, scope: asyncio.Timeout, error: TimeoutError) -> TimeoutError:
        """Return what to raise for a `TimeoutError` that came out of ``scope``."""
        if not scope.expired() or isinstance(error, StorageTimeoutError):
            return error
        where: dict[str, Any] = dict(self._where)
        explained = StorageTimeoutError(
            f"Not done within {self.timeout:g} s.", retryable=True, **where
        )
        # What was cancelled may have told there what it could not clean up.
        explained.unfinished_upload_id = getattr(error.__cause__, "unfinished_upload_id", None)
        for note in getattr(error.__cause__, "__notes__", ()):
            explained.add_note(note)
        return explained


def is_duration(value: object) -> bool:
    """Whether this is a number of seconds above 0 that ends."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value > 0
