"""Received requests, and the rules that inject faults into them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from careflow_storage.testing.proxy.http1 import CutError

Cut = Literal["rst", "fin", "hang"]
At = Literal["head", "resp", "idle"] | tuple[Literal["req", "body"], int]


class Signal:
    """An event that any thread can set and any event loop can wait for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._waiting: set[asyncio.Future[None]] = set()

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._is_set

    def set(self) -> None:
        """Set it permanently, and wake all waiting tasks."""
        with self._lock:
            self._is_set = True
            waiting, self._waiting = self._waiting, set()
        for future in waiting:
            loop = future.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_finish, future)

    async def wait(self) -> None:
        """Wait until it is set, on any event loop."""
        future = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._is_set:
                return
            self._waiting.add(future)
        try:
            await future
        finally:
            with self._lock:
                self._waiting.discard(future)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@dataclass
class Attempt:
    """One received request.

    Attributes:
        method: E.g. ``PUT``.
        target: Path and query, as sent; a `B2Server` writes ``REDACTED`` for signatures.
        headers: Names in lower case; a `B2Server` writes ``REDACTED`` for secrets.
        connection: The number of the client's connection, from 1.
        operation: S3's name of the operation, e.g. ``UploadPart``.
        bucket: The bucket's name or ``""``.
        key: The object's key or ``""``.
        body_bytes: How many bytes of the body were read.
        status: The status of the response; None before it.
        fault: The rule that was applied, or None.
    """

    method: str
    target: str
    headers: dict[str, str]
    connection: int
    operation: str = ""
    bucket: str = ""
    key: str = ""
    body_bytes: int = 0
    status: int | None = None
    fault: Rule | None = None


@dataclass(kw_only=True)
class Rule:
    """A fault, and the requests to inject it into.

    Requests: ``method``; ``operation``, S3's name as in ``UploadPart``; ``path`` and ``key``,
    regular expressions searched for in the target as sent and in the decoded key; ``when``, a
    function of the `Attempt`; ``times``, how often (None: always).

    Fault: ``status``, ``code``, ``message``, ``body``: send this response without the server,
    after reading the request's body (``drain=False``: before). ``headers``: added to that
    response, or changed in the server's (None removes one). ``retry_after``: the header of
    that name, in seconds.
    ``cut`` the connection by a reset ("rst"), an orderly end ("fin") or silence ("hang"); ``at``:
    after the request's head ("head"), after n bytes of its body ("req", n), after the server's
    response is received but not sent on ("resp"), after n bytes of the response's body
    ("body", n), or after the whole response ("idle").
    ``short``: only this many bytes of the response's body, with a matching Content-Length.
    ``corrupt``, ``corrupt_upload``: flip a bit of this byte of the response or the request.
    ``delay``: seconds before the request is handled. ``rate``, ``upload_rate``: bytes per second.

    ``hits`` counts how often it was applied. ``fired`` is set when it is; setting ``release``
    turns a "hang" into a reset, and ends a delay.
    """

    method: str | None = None
    operation: str | None = None
    path: str = ""
    key: str = ""
    when: Callable[[Attempt], bool] | None = None
    times: int | None = None
    status: int | None = None
    code: str | None = None
    message: str = "injected"
    headers: Mapping[str, str | None] = field(default_factory=dict)
    retry_after: float | None = None
    body: bytes | None = None
    drain: bool = True
    cut: Cut | None = None
    at: At = "head"
    short: int | None = None
    corrupt: int | None = None
    corrupt_upload: int | None = None
    delay: float = 0.0
    rate: float | None = None
    upload_rate: float | None = None
    hits: int = 0
    fired: Signal = field(default_factory=Signal, repr=False, compare=False)
    release: Signal = field(default_factory=Signal, repr=False, compare=False)

    def applies_to(self, attempt: Attempt) -> bool:
        """Whether the rule matches the request and is not used up."""
        return (
            (self.times is None or self.hits < self.times)
            and self.method in (None, attempt.method)
            and self.operation in (None, attempt.operation)
            and re.search(self.path, attempt.target) is not None
            and re.search(self.key, attempt.key) is not None
            and (self.when is None or self.when(attempt))
        )

    @property
    def _responds(self) -> bool:
        """Whether the rule sends a response without the server."""
        return self.status is not None or self.code is not None or self.body is not None

    @property
    def _changes(self) -> dict[str, str | None]:
        """The headers to change in the response."""
        after = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}
        return {**after, **self.headers}

    def _take(self, attempt: Attempt) -> None:
        """Count the rule as applied to this request."""
        self.hits += 1
        attempt.fault = self
        self.fired.set()

    async def _wait(self) -> None:
        """Wait as long as the request is delayed."""
        if self.delay > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.delay):
                    await self.release.wait()

    def _cut_if(self, place: At) -> None:
        """Break the connection if this is the place for it."""
        if self.cut is not None and self.at == place:
            raise CutError

    def _cut_after(self, place: Literal["req", "body"]) -> int | None:
        """Return after how many bytes of this body to break the connection, or None."""
        place_is_cut = self.cut is not None and isinstance(self.at, tuple) and self.at[0] == place
        return int(self.at[1]) if place_is_cut else None
