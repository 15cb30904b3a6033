"""`StoragePortal`: the storage for synchronous code, in an event loop of a thread of its own."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeAlias, TypeVar, Unpack

from careflow_storage._in_flight import DEFAULT_GRACE, checked_grace
from careflow_storage._transfer.incomplete import checked_age
from careflow_storage.errors import StorageClosedError, WrongLoopError
from careflow_storage.integrations.worker_options import StorageOptions
from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage

_P = ParamSpec("_P")
_T = TypeVar("_T")

# An exception that one thread raises in another arrives between two waits.
_WAIT_SECONDS = 0.1


class StoragePortal:
    """Runs async functions for synchronous callers, all with the one storage of this process.

    ::

        portal = StoragePortal()

        async def store(storage: BackblazeStorage, call_id: str, path: Path) -> str:
            result = await storage.upload_recording(call_id, path, path.name)
            return result.key

        key = portal.call(store, "CA123", Path("recording.webm"))

    The first call starts a thread with an event loop and opens the storage there. Any number of
    threads may call at once. After a fork the child starts its own at its first call.

    Args:
        settings: Default: read from ``BACKBLAZE_*`` at the first call.
        grace: The most seconds for the clean-up of an interrupted call, and for `close`.
        options: ``hooks`` and ``rate_limit``, as for `BackblazeStorage`.

    Raises:
        InvalidInputError: ``grace`` is not a number of seconds, 0 or more.
    """

    def __init__(
        self,
        settings: StorageSettings | None = None,
        *,
        grace: float = DEFAULT_GRACE,
        **options: Unpack[StorageOptions],
    ) -> None:
        self._make_storage = partial(BackblazeStorage, settings, **options)
        self._grace = checked_grace(grace)
        self._inherited: list[_LoopThread] = []
        self._lock = threading.Lock()
        self._thread: _LoopThread | None = None
        self._closed = False
        me = weakref.ref(self)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: _reset(me()))
        atexit.register(_close, me)

    def call(
        self,
        function: Callable[Concatenate[BackblazeStorage, _P], Awaitable[_T]],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Await ``function(storage, *args, **kwargs)`` in the portal's loop; return its result.

        An exception in the waiting thread, such as a soft time limit, cancels the function. The
        call then waits for its clean-up, at most ``grace`` seconds, and raises that exception.
        Context variables of the caller are visible in the function.

        Raises:
            NotConfiguredError: A setting is missing.
            StorageClosedError: The portal is closed, or was closed meanwhile.
            WrongLoopError: An event loop runs in the calling thread, or the threads are not those
                of the operating system (gevent, eventlet).
        """
        _check_thread()
        return self._running().run(lambda storage: function(storage, *args, **kwargs))

    def stale_uploads_job(self, older_than: timedelta, prefix: str = "") -> Callable[[], int]:
        """Return a function that calls `BackblazeStorage.abort_stale_uploads`; it returns how many.

        Raises:
            InvalidInputError: ``older_than`` is not a positive timedelta.
        """
        age = checked_age(older_than)

        def abort_stale_uploads() -> int:
            return len(self.call(BackblazeStorage.abort_stale_uploads, age, prefix))

        return abort_stale_uploads

    def close(self) -> None:
        """Cancel the calls in flight, wait for their clean-up, and close the storage.

        Those calls raise `StorageClosedError`. Safe to call twice. A process that does not call it
        does so at its exit.
        """
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _running(self) -> _LoopThread:
        with self._lock:
            if self._closed:
                raise StorageClosedError(
                    "The portal is closed.", hint="Make a new StoragePortal, or close it later."
                )
            if self._thread is None:
                self._thread = _LoopThread(self._make_storage, self._grace)
            return self._thread


class _LoopThread:
    """A thread with an event loop, and a storage that is open in it."""

    def __init__(self, make_storage: Callable[[], BackblazeStorage], grace: float) -> None:
        self._make_storage = make_storage
        self._grace = grace
        self._calls: set[_Call[Any]] = set()
        self._stop = asyncio.Event()
        opened: _Opened = Future()
        self._thread = threading.Thread(
            target=self._run, args=(opened,), name="careflow-storage-portal", daemon=True
        )
        self._thread.start()
        self._loop, self._storage = opened.result()

    def _run(self, opened: _Opened) -> None:
        try:
            asyncio.run(self._main(self._make_storage(), opened))
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(error)
        finally:
            # The loop is closed. What it has not begun would never end.
            for call in list(self._calls):
                call.abandon()

    async def _main(self, storage: BackblazeStorage, opened: _Opened) -> None:
        await storage.__aenter__()
        opened.set_result((asyncio.get_running_loop(), storage))
        await self._stop.wait()
        await storage.close(self._grace)

    def run(self, function: Callable[[BackblazeStorage], Awaitable[_T]]) -> _T:
        """Run a function in the loop, and wait for it."""
        call = _Call(self._loop, lambda: function(self._storage))
        self._calls.add(call)
        try:
            call.start()
            return call.wait()
        except BaseException:
            if not call.ended.is_set():
                call.cancel()
                call.ended.wait(self._grace)
            raise
        finally:
            self._calls.discard(call)

    def stop(self) -> None:
        """Close the storage and end the thread."""
        with suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


_Opened: TypeAlias = "Future[tuple[asyncio.AbstractEventLoop, BackblazeStorage]]"


class _Call(Generic[_T]):
    """One function that runs in the loop of another thread."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, function: Callable[[], Awaitable[_T]]
    ) -> None:
        self.ended = threading.Event()
        self._loop = loop
        self._function = function
        self._context = contextvars.copy_context()
        self._task: asyncio.Task[None] | None = None
        self._outcome: Future[_T] = Future()

    def start(self) -> None:
        """Begin it. From then on `ended` is set in any case."""
        try:
            self._loop.call_soon_threadsafe(self._begin)
        except RuntimeError as error:
            raise _closed_meanwhile() from error

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._run(), context=self._context)

    async def _run(self) -> None:
        try:
            self._outcome.set_result(await self._function())
        except asyncio.CancelledError as error:
            closed = _closed_meanwhile()
            closed.__cause__ = error
            self._outcome.set_exception(closed)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self._outcome.set_exception(error)
        finally:
            self.ended.set()

    def abandon(self) -> None:
        """End it, since its loop is closed."""
        if not self.ended.is_set():
            self._outcome.set_exception(_closed_meanwhile())
            self.ended.set()

    def wait(self) -> _T:
        """Return the function's result, or raise its error."""
        while not self.ended.wait(_WAIT_SECONDS):
            pass
        return self._outcome.result()

    def cancel(self) -> None:
        """Cancel the function."""
        with suppress(RuntimeError):  # the loop has ended, and this call with it
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _closed_meanwhile() -> StorageClosedError:
    return StorageClosedError(
        "The portal was closed while it was in use.",
        hint="Close it when no thread calls it any more.",
    )


def _check_thread() -> None:
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if (gevent is not None and gevent.is_module_patched("threading")) or (
        eventlet is not None and eventlet.is_monkey_patched("thread")
    ):
        raise WrongLoopError(
            "No event loop can run beside the green threads of gevent or eventlet.",
            hint="Use a pool of processes or threads, such as Celery's --pool prefork or threads.",
        )
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise WrongLoopError(
        "An event loop runs in this thread: a portal would block it.",
        hint="Open a BackblazeStorage in this loop and await its methods.",
    )


def _reset(portal: StoragePortal | None) -> None:
    """Forget the thread of the parent process, after a fork."""
    if portal is None:
        return
    if portal._thread is not None:
        # Kept: its loop would close file descriptors that the parent process watches.
        portal._inherited.append(portal._thread)
    portal._thread, portal._closed, portal._lock = None, False, threading.Lock()


def _close(portal: weakref.ref[StoragePortal]) -> None:
    me = portal()
    if me is not None:
        me.close()
