"""One call of a public method: its deadline, and its name in every error."""

from __future__ import annotations

import asyncio
from types import TracebackType

from careflow_storage._in_flight import InFlight, Running
from careflow_storage._observer import ObservedCall, Observer
from careflow_storage._s3.deadline import Deadline
from careflow_storage._s3.redaction import scrub
from careflow_storage.errors import StorageError


class MethodCall:
    """The context in which a public method does its work.

    Adds the method, the bucket and the key to every `StorageError` that lacks them. Clears the
    local variables in the traceback: error trackers record them, and they hold URLs, headers and
    tokens.

    ``async with`` also enforces ``timeout``, and lets `close` cancel the call, which then raises
    `StorageClosedError`. Plain ``with`` is for methods that send no request.
    """

    __slots__ = (
        "_bucket",
        "_deadline",
        "_in_flight",
        "_method",
        "_observed",
        "_observer",
        "_running",
        "_scope",
        "key",
    )

    def __init__(
        self,
        method: str,
        bucket: str | None,
        key: str | None = None,
        timeout: float | None = None,
        in_flight: InFlight | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._method = method
        self._bucket = bucket
        self.key: str | None = key
        self._scope: asyncio.Timeout | None = None
        self._in_flight = in_flight
        self._running: Running | None = None
        self._observer = observer
        self._observed: ObservedCall | None = None
        self._deadline: Deadline | None = None
        if timeout is not None:
            with self:
                self._deadline = Deadline(timeout)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            return
        scrub(exc)
        if isinstance(exc, StorageError):
            exc.method = exc.method or self._method
            exc.bucket = exc.bucket or self._bucket
            exc.key = exc.key or self.key

    async def __aenter__(self) -> None:
        if self._in_flight is not None:
            self._running = self._in_flight.enter()
        if self._observer is not None:
            self._observed = self._observer.start_call(self._method, self._bucket, self.key)
            self._observed.enter()
        if self._deadline is not None:
            self._scope = self._deadline.scope()
            await self._scope.__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            scrub(exc)
        try:
            try:
                if self._scope is not None and self._deadline is not None:
                    await self._end_scope(self._deadline, self._scope, exc_type, exc, traceback)
            finally:
                running, self._running = self._running, None
                closed = running.leave(exc) if running is not None else None
            if closed is not None:
                self.__exit__(type(closed), closed, None)
                raise closed from exc
        except BaseException as error:
            self._end_observed(error)
            raise
        if exc is not None:
            self.__exit__(exc_type, exc, traceback)
        if self._observed is not None:
            self._end_observed(exc)

    def _end_observed(self, error: BaseException | None) -> None:
        observed, self._observed = self._observed, None
        if observed is not None:
            observed.leave()
            observed.end(error, self.key)

    async def _end_scope(
        self,
        deadline: Deadline,
        scope: asyncio.Timeout,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await scope.__aexit__(exc_type, exc, traceback)
        except TimeoutError as error:
            explained = deadline.explain(scope, error)
            self.__exit__(type(explained), explained, None)
            raise explained from error
