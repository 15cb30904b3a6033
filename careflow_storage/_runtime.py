"""Opens and closes the resources of a storage, once, in one event loop of one process."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from careflow_storage._in_flight import DEFAULT_GRACE, Closing, InFlight, checked_grace
from careflow_storage._log_fields import log_fields
from careflow_storage._method_call import MethodCall
from careflow_storage._observer import Observer
from careflow_storage._s3.request_counter import RequestCounter
from careflow_storage._s3.requests.control_plane import ControlPlane
from careflow_storage._s3.requests.multipart import MultipartRequests
from careflow_storage._s3.requests.objects import S3Requests
from careflow_storage._s3.retry import RetryPolicy
from careflow_storage._s3.session import S3Session, missing_settings
from careflow_storage._s3.transport import Transport
from careflow_storage._transfer.bodies.memory import ByteBudget
from careflow_storage._transfer.bodies.spool import SharedSpool
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.threads import Threads
from careflow_storage._wrong_loop import other_loop_error, other_process_error, running_loop
from careflow_storage.errors import NotConfiguredError, StorageClosedError, WrongLoopError
from careflow_storage.hooks import Hooks
from careflow_storage.rate_limit import RateLimit

if TYPE_CHECKING:
    from careflow_storage._s3.session import GivenSession
    from careflow_storage.settings import StorageSettings

logger = logging.getLogger("careflow_storage")

_OPEN = "Use it inside 'async with BackblazeStorage() as storage:', or await initialize() first."
_REOPEN = "Make a new BackblazeStorage: a closed storage cannot be reopened."


class Runtime:
    """Opens and closes the resources of a storage, and checks each use of them."""

    def __init__(
        self,
        settings: StorageSettings,
        session: GivenSession | None,
        rate: RateLimit | None = None,
        hooks: tuple[Hooks, ...] = (),
    ) -> None:
        if rate is None and settings.rate_limit is not None:
            rate = RateLimit(settings.rate_limit)
        self.settings = settings
        self._rate = rate
        self.observer: Observer | None = None
        if hooks:
            self.observer = Observer(hooks, settings.endpoint or "", settings.bucket_name)
        self._given = session
        self._context: TransferContext | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._closed = False
        self._opening = asyncio.Lock()
        self._closing: Closing | None = None
        self.in_flight: InFlight = InFlight()
        self.counter: RequestCounter = RequestCounter()

    @property
    def state(self) -> str:
        """One of "not open", "open", "closed"."""
        return "closed" if self._closed else "open" if self._context else "not open"

    @property
    def missing(self) -> tuple[str, ...]:
        """The environment variables that are required and not set."""
        return missing_settings(self.settings, self._given)

    async def open(self) -> None:
        """Create the connection pool and the threads, unless they exist."""
        async with self._opening:
            await self._open()

    async def _open(self) -> None:
        if self._closed:
            raise StorageClosedError("The storage was closed.", hint=_REOPEN)
        if self._context is not None:
            self.context()
            return
        if self.missing:
            raise NotConfiguredError(self.missing)
        settings = self.settings
        session = S3Session(
            settings, self._given, self.in_flight, self.counter, self._rate, self.observer
        )
        await session.open()
        if self._closed:
            await session.close()
            raise StorageClosedError("The storage was closed while it was being opened.")
        retry = RetryPolicy(
            settings.retry_attempts,
            settings.retry_base_delay,
            settings.retry_max_delay,
            self._rate,
            self.observer,
        )
        transport = Transport(session, retry)
        threads = Threads()
        self._loop, self._process = asyncio.get_running_loop(), os.getpid()
        self._context = TransferContext(
            settings=settings,
            session=session,
            requests=S3Requests(transport, threads.run),
            multipart=MultipartRequests(transport),
            control=ControlPlane(session, retry),
            retry=retry,
            threads=threads,
            budget=ByteBudget(settings.memory_budget),
            spool=SharedSpool(),
            in_flight=self.in_flight,
        )

    def call(self, method: str, key: str | None = None, timeout: float | None = None) -> MethodCall:
        """Return the `MethodCall` in which one call of the public ``method`` runs."""
        bucket = self.settings.bucket_name
        return MethodCall(method, bucket, key, timeout, self.in_flight, self.observer)

    def context(self) -> TransferContext:
        """Return the transfer context, after checking the state, the process and the event loop.

        Raises:
            NotConfiguredError: Required settings are missing.
            StorageClosedError: Not opened yet, or closed.
            WrongLoopError: Called in another event loop than the one that opened it, or in a
                forked process.
        """
        if self._context is None or self._closed:
            if self.missing and not self._closed:
                raise NotConfiguredError(self.missing)
            hint = _REOPEN if self._closed else _OPEN
            raise StorageClosedError(f"The storage is {self.state}.", hint=hint)
        if os.getpid() != self._process:
            raise other_process_error("storage")
        if self._loop is not None and running_loop() is not self._loop:
            raise other_loop_error("storage", self._loop)
        return self._context

    async def close(self, grace: float = DEFAULT_GRACE) -> None:
        """End the calls in flight within ``grace`` seconds, then close connections and threads.

        Safe to call twice, and in several tasks at once: the shortest grace applies. Inside a
        call of this storage it returns at once; the storage is closed after that call has ended.

        Raises:
            InvalidInputError: ``grace`` is not a number of seconds.
            WrongLoopError: Another event loop opened the storage, and is not closed yet.
        """
        grace = checked_grace(grace)
        context = self._context
        if context is None:
            self._closed = True
        elif os.getpid() != self._process:
            # The connections and uploads belong to the parent process.
            self._closed, self.in_flight.deadline = True, 0.0
        elif running_loop() is not self._loop:
            await self._close_elsewhere(context)
        else:
            self._closed = True
            if self._closing is None:
                self._closing = Closing(self.in_flight, lambda: _release(context), grace)
            await self._closing.wait(grace)

    async def _close_elsewhere(self, context: TransferContext) -> None:
        """Release everything that needs no event loop, if the storage's own loop is closed."""
        if self._loop is not None and not self._loop.is_closed():
            raise WrongLoopError(
                "The storage was opened in another event loop.",
                hint="Close it in the loop that opened it, before that loop is closed.",
            )
        if self._closed:
            return
        self._closed = True
        if not self.in_flight.is_empty:
            logger.warning(
                "The event loop was closed before the storage: calls in flight were cut off. "
                "abort_stale_uploads() aborts the uploads that they left.",
                extra=log_fields("loop_closed"),
            )
        self.in_flight.deadline = 0.0
        context.session.abandon()
        await context.threads.close()


async def _release(context: TransferContext) -> None:
    try:
        await context.session.close()
    finally:
        await context.threads.close()
