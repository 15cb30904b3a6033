"""Reports calls, requests, retries and connections to a storage's `Hooks`."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from careflow_storage._log_fields import log_fields
from careflow_storage.errors import InvalidInputError, StorageError
from careflow_storage.hooks import CallEvent, ConnectionsEvent, Hooks, RequestEvent, RetryEvent

logger = logging.getLogger("careflow_storage")

_METHODS: Final = (
    *("call_started", "call_ended", "request_sent", "response_received", "request_ended"),
    *("retry_scheduled", "connections_changed"),
)

# The innermost call of this task, or of the task that made this task.
_current: ContextVar[ObservedCall | None] = ContextVar("careflow_storage_call", default=None)


class _WrongHooksError(InvalidInputError, TypeError):
    """What was given as hooks has not the methods of `Hooks`."""


def checked_hooks(hooks: object) -> tuple[Hooks, ...]:
    """Return the hooks.

    Raises:
        InvalidInputError: They are no iterable of objects with all methods of `Hooks`, or a
            method is a coroutine function. It is a `TypeError`, too.
    """
    if not isinstance(hooks, Iterable) or isinstance(hooks, str | bytes):
        raise _WrongHooksError(
            f"hooks must be a list of Hooks, not {type(hooks).__name__}.",
            hint="Write hooks=[MyHooks()].",
        )
    checked: list[Any] = list(hooks)
    for each in checked:
        for name in _METHODS:
            method = getattr(each, name, None)
            if not callable(method) or isinstance(each, type):
                raise _WrongHooksError(
                    f"hooks must contain objects with the methods of Hooks; {each!r:.80} has no "
                    f"{name}().",
                    hint="Subclass careflow_storage.hooks.Hooks and pass an instance.",
                )
            if inspect.iscoroutinefunction(method):
                raise _WrongHooksError(
                    f"{type(each).__name__}.{name} must not be async.",
                    hint="Hooks are called without await: put the event in an asyncio.Queue.",
                )
    return tuple(checked)


class Observer:
    """Creates the events of one storage and passes each to all hooks.

    Each hook gets events of its own, with the key only if it records keys.
    """

    def __init__(self, hooks: tuple[Hooks, ...], endpoint: str, bucket: str | None) -> None:
        parts = urlsplit(endpoint)
        self.hooks = hooks
        self.bucket = bucket
        self.server_address: str = parts.hostname or ""
        self.server_port: int = parts.port or (443 if parts.scheme == "https" else 80)
        self._failed: set[int] = set()
        self._connections = (0, 0)

    def start_call(self, method: str, bucket: str | None, key: str | None) -> ObservedCall:
        """Report that a call of a public method begins."""
        return ObservedCall(self, method, bucket, key)

    def start_request(
        self,
        operation: str,
        http_method: str,
        *,
        bucket: str | None,
        key: str | None,
        attempt: int,
        query: str = "",
        upload_id: str | None = None,
        part_number: int | None = None,
        size: int | None = None,
    ) -> ObservedRequest:
        """Report that a request is sent. ``query`` may contain the upload ID and part number."""
        if query:
            found = parse_qs(query)
            upload_id = found.get("uploadId", [upload_id])[0]
            if number := found.get("partNumber"):
                part_number = int(number[0])
        outer = _current.get()
        events = tuple(
            (
                hooks,
                RequestEvent(
                    call=None if outer is None else outer.event_of(hooks),
                    operation=operation,
                    http_method=http_method,
                    server_address=self.server_address,
                    server_port=self.server_port,
                    bucket=bucket,
                    key=key if hooks.record_keys else None,
                    attempt=attempt,
                    upload_id=upload_id,
                    part_number=part_number,
                    request_bytes=size,
                ),
            )
            for hooks in self.hooks
        )
        return ObservedRequest(self, events, attempt)

    def retry(self, error: StorageError, attempt: int, delay: float) -> None:
        """Report that a failed request is sent again after ``delay`` seconds."""
        outer = _current.get()
        for hooks in self.hooks:
            event = RetryEvent(
                call=None if outer is None else outer.event_of(hooks),
                operation=error.operation,
                bucket=error.bucket,
                key=error.key if hooks.record_keys else None,
                attempt=attempt,
                delay=delay,
                status=error.status,
                error_type=public_name(error),
                error_code=error.code,
            )
            self.report(hooks, "retry_scheduled", event)

    def connections(self, active: int, idle: int) -> None:
        """Report the open connections, if their numbers have changed."""
        before_active, before_idle = self._connections
        if (active, idle) == self._connections:
            return
        self._connections = active, idle
        for hooks in self.hooks:
            event = ConnectionsEvent(
                server_address=self.server_address,
                server_port=self.server_port,
                active=active,
                idle=idle,
                active_change=active - before_active,
                idle_change=idle - before_idle,
            )
            self.report(hooks, "connections_changed", event)

    def report(self, hooks: Hooks, method: str, event: Any) -> None:
        """Call one method of one hook; log the first exception that the hook raises."""
        try:
            getattr(hooks, method)(event)
        except Exception as error:
            if id(hooks) in self._failed:
                return
            self._failed.add(id(hooks))
            logger.warning(
                "The hook %s.%s() failed: %s. Further failures of this hook are not logged.",
                type(hooks).__name__,
                method,
                type(error).__name__,
                exc_info=error,
                extra=log_fields("hook_failed", error, hook=type(hooks).__name__),
            )


class ObservedCall:
    """A call that hooks have seen begin, until `end`."""

    __slots__ = ("_ended", "_events", "_observer", "_started", "_token")

    def __init__(
        self, observer: Observer, method: str, bucket: str | None, key: str | None
    ) -> None:
        outer = _current.get()
        self._observer = observer
        self._ended = False
        self._token: Token[ObservedCall | None] | None = None
        self._events = tuple(
            (
                hooks,
                CallEvent(
                    method=method,
                    bucket=bucket,
                    key=key if hooks.record_keys else None,
                    parent=None if outer is None else outer.event_of(hooks),
                ),
            )
            for hooks in observer.hooks
        )
        self._started = time.perf_counter()
        for hooks, event in self._events:
            observer.report(hooks, "call_started", event)

    def event_of(self, hooks: Hooks) -> CallEvent | None:
        """Return the event that these hooks got, perhaps from another storage."""
        for each, event in self._events:
            if each is hooks:
                return event
        return None

    def enter(self) -> None:
        """Make this the call that requests of the current task, and of its tasks, belong to."""
        self._token = _current.set(self)

    def leave(self) -> None:
        """Undo `enter`."""
        token, self._token = self._token, None
        if token is not None:
            # An iterator that the garbage collector ends is in another context by then.
            with suppress(ValueError):
                _current.reset(token)

    def end(self, error: BaseException | None, key: str | None = None) -> None:
        """Report the end of the call, once. ``key`` may have become known meanwhile."""
        if self._ended:
            return
        self._ended = True
        duration = time.perf_counter() - self._started
        for hooks, event in self._events:
            event.duration = duration
            event.error_type = _error_type(error)
            if hooks.record_keys and event.key is None:
                event.key = key
            self._observer.report(hooks, "call_ended", event)


class ObservedRequest:
    """A request that hooks have seen sent, until `end`.

    Attributes:
        attempt: Its number, from 1.
        response_bytes: How many bytes of the response's body were read, if known.
    """

    __slots__ = ("_ended", "_events", "_observer", "_started", "attempt", "response_bytes")

    def __init__(
        self, observer: Observer, events: tuple[tuple[Hooks, RequestEvent], ...], attempt: int
    ) -> None:
        self.attempt: int = attempt
        self.response_bytes: int | None = None
        self._observer = observer
        self._events = events
        self._ended = False
        self._started = time.perf_counter()
        for hooks, event in events:
            observer.report(hooks, "request_sent", event)

    def respond(self, status: int, request_id: str | None) -> None:
        """Report that the head of the response has arrived."""
        for hooks, event in self._events:
            event.status, event.request_id = status, request_id
            self._observer.report(hooks, "response_received", event)

    def end(self, error: BaseException | None) -> None:
        """Report the end of the response, or the error, once."""
        if self._ended:
            return
        self._ended = True
        duration = time.perf_counter() - self._started
        for hooks, event in self._events:
            event.duration = duration
            event.response_bytes = self.response_bytes
            event.error_type = _error_type(error)
            if isinstance(error, StorageError):
                event.error_code = error.code
                event.status = event.status or error.status
                event.request_id = event.request_id or error.request_id
            self._observer.report(hooks, "request_ended", event)


def _error_type(error: BaseException | None) -> str | None:
    # A generator that its caller closes early has not failed.
    return None if error is None or isinstance(error, GeneratorExit) else public_name(error)


def public_name(error: BaseException) -> str:
    """Return the name of the exception's class, or of the public class that it derives from."""
    return next(each.__name__ for each in type(error).__mro__ if not each.__name__.startswith("_"))
