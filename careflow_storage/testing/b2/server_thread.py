"""The thread in which a `B2Server` runs its emulator."""

from __future__ import annotations

import asyncio
import functools
import selectors
import ssl
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from careflow_storage.errors import InvalidInputError, MissingExtraError, StorageError
from careflow_storage.testing.b2.emulator import Account, Emulator
from careflow_storage.testing.b2.errors import RefusedError
from careflow_storage.testing.b2.limits import MAX_PUT_SIZE
from careflow_storage.testing.proxy.exchange import Exchange, Listener, response_head
from careflow_storage.testing.proxy.rule import Attempt, Rule

T = TypeVar("T")
_MAX_ROUNDS = 500


class EmulatorError(StorageError):
    """The emulator could not start, or is not running."""


class ServerThread:
    """The server's thread, with its loop, listener and store."""

    def __init__(
        self,
        account: Account,
        min_part_size: int,
        choose: Callable[[Attempt], Rule | None],
        tls: ssl.SSLContext | None,
        log: list[Attempt],
    ) -> None:
        self._account = account
        self._min_part_size = min_part_size
        self._choose = choose
        self._tls = tls
        self._log = log
        self._selector = _IdleSelector()
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="b2-server", daemon=True)
        self.url: str = ""

    def start(self) -> None:
        self._thread.start()
        try:
            self._ready.result()
        except ImportError as error:
            self._thread.join()
            raise MissingExtraError("testing") from error

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def do(self, function: Callable[[], T]) -> T:
        """Run a function after all requests that were sent before; it must not block.

        Requests whose client has disconnected are handled, too. Requests that a fault delays
        are not waited for. In the server's own thread it runs at once.
        """
        if threading.current_thread() is self._thread:
            return function()
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(function())
            except RefusedError as refusal:
                done.set_exception(InvalidInputError(f"{refusal.message}."))
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                done.set_exception(error)

        self._loop.call_soon_threadsafe(self._selector.when_idle, run)
        return done.result()

    def _run(self) -> None:
        try:
            # Imported here, since it takes a second and only a started server needs it.
            from careflow_storage.testing.b2.store import MotoStore

            self.store: MotoStore = MotoStore(self._min_part_size)
            # This loop needs only the standard library, whatever loop the tests use.
            new_loop = functools.partial(asyncio.SelectorEventLoop, self._selector)
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        # In debug mode asyncio would warn of slow callbacks on this internal loop.
        self._loop.slow_callback_duration = 60.0
        emulator = Emulator(self._account, self.store)
        listener = Listener(
            functools.partial(_EmulatedExchange, emulator),
            self._choose,
            tls=self._tls,
            log=self._log,
        )
        self.url = await listener.start()
        self._ready.set_result(None)
        try:
            await self._stopping.wait()
        finally:
            await listener.stop()
            self.store.clear()


class _IdleSelector(selectors.DefaultSelector):
    """Calls functions when its event loop has no callback to run and no socket to read.

    Other clients may keep the server busy: after some hundred rounds, in which it has read
    megabytes from each connection, it calls them between two requests.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[Callable[[], None]] = []
        self._rounds = 0

    def when_idle(self, function: Callable[[], None]) -> None:
        """Call this function once, in the loop's thread; it must not raise."""
        self._waiting.append(function)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready, as the loop asks for it in each of its rounds."""
        if not self._waiting:
            return super().select(timeout)
        events = super().select(0)
        self._rounds += 1
        # The loop does not wait (0) while it has callbacks to run.
        if (timeout != 0 and not events) or self._rounds > _MAX_ROUNDS:
            self._rounds, waiting, self._waiting = 0, self._waiting, []
            for function in waiting:
                function()
        return events


class _EmulatedExchange(Exchange):
    """Sends requests to the emulator."""

    def __init__(self, emulator: Emulator, *given: Any) -> None:
        super().__init__(*given)
        self._emulator = emulator

    def extra_headers(self) -> dict[str, str]:
        method, target, headers = self._request()
        return self._emulator.cors_headers(method, target, headers)

    async def respond(self) -> bool:
        too_long = int(self.head.get("Content-Length") or 0) > MAX_PUT_SIZE
        if self.head.get("Expect").lower() == "100-continue" and not too_long:
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b"" if too_long else b"".join([chunk async for chunk in self.request_body()])
        method, target, headers = self._request()
        response = self._emulator.handle(method, target, headers, body)
        head = response_head(response.status, response.headers)
        is_head = method == "HEAD"
        if not is_head and response.status != 204:
            head.set("Content-Length", str(len(response.body)))
        has_body = not is_head and response.status not in (204, 304)
        keep = await self.relay(head, _once(response.body) if has_body else None)
        return keep and not too_long

    def _request(self) -> tuple[str, str, dict[str, str]]:
        method, target, _ = self.head.first.split(" ", 2)
        return method, target, {name.lower(): value for name, value in self.head.headers}


async def _once(body: bytes) -> AsyncGenerator[bytes]:
    yield body
