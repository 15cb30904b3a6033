"""The time that one call of a user may take, retries and pauses included."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Self, TypeVar

from careflow_storage._in_flight import InFlight
from careflow_storage._observer import ObservedCall, Observer
from careflow_storage.errors import InvalidInputError, StorageError, StorageTimeoutError

T = TypeVar("T")


class Deadline:
    """``timeout`` seconds, counted from the first wait; None for no limit.

    ``with`` calls `finish` at its end.

    For iterators, and other work in several steps between which the caller's code runs, which
    no `MethodCall` can surround.

    Args:
        in_flight: The storage's calls; closing the storage cancels what `wait` awaits.
        observer: Reports a call of the method: from the first wait to `finish`.
        where: The method, bucket and key to add to errors that lack them.

    Raises:
        InvalidInputError: ``timeout`` is not a number of seconds above 0.
    """

    def __init__(
        self,
        timeout: float | None,
        in_flight: InFlight | None = None,
        observer: Observer | None = None,
        **where: str | None,
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
        self._observer = observer
        self._observed: ObservedCall | None = None
        self._is_entered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.finish(exc)

    def scope(self) -> asyncio.Timeout:
        """Return the context manager that ends what is waited for in it."""
        if self._end is None and self.timeout is not None:
            self._end = asyncio.get_running_loop().time() + self.timeout
        return asyncio.timeout_at(self._end)

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Await one step, until the time is up.

        Raises:
            StorageTimeoutError: The time is up.
            StorageClosedError: The storage is closed, or was closed meanwhile.
        """
        if self._observer is not None and not self._is_entered:
            return await self._wait_observed(self._observer, awaitable)
        try:
            if self._in_flight is None:
                return await self._in_time(awaitable)
            if self._in_flight.refuses:
                # Python warns of a coroutine that is not awaited.
                if (close := getattr(awaitable, "close", None)) is not None:
                    close()
                raise self._in_flight.closed_error()
            running = self._in_flight.enter()
            if running is None:
                return await self._in_time(awaitable)
            with running:
                return await self._in_time(awaitable)
        except StorageError as error:
            self.describe(error)
            raise

    def finish(self, error: BaseException | None = None) -> None:
        """Report that the call has ended, with ``error`` if it failed; only once."""
        if self._observed is not None:
            self._observed.end(error)

    async def _wait_observed(self, observer: Observer, awaitable: Awaitable[T]) -> T:
        if self._observed is None:
            where = self._where
            self._observed = observer.start_call(
                where.get("method") or "", where.get("bucket"), where.get("key")
            )
        self._observed.enter()
        self._is_entered = True
        try:
            return await self.wait(awaitable)
        except BaseException as error:
            self._observed.end(error)
            raise
        finally:
            self._is_entered = False
            self._observed.leave()

    def describe(self, error: StorageError) -> None:
        """Add the method, bucket and key to an error that lacks them."""
        for name, value in self._where.items():
            if getattr(error, name) is None:
                setattr(error, name, value)

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
        # The cancelled call may have recorded there what it could not clean up.
        explained.unfinished_upload_id = getattr(error.__cause__, "unfinished_upload_id", None)
        for note in getattr(error.__cause__, "__notes__", ()):
            explained.add_note(note)
        return explained


def is_duration(value: object) -> bool:
    """Whether this is a number of seconds above 0 that ends."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # An int may be too large for a float.
    return 0 < value <= sys.float_info.max
