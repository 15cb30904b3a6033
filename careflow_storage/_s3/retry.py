"""One retry policy for the data plane and the control plane."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from careflow_storage.errors import ConnectionFailedError, PoolTimeoutError, StorageError

logger = logging.getLogger("careflow_storage")

T = TypeVar("T")


@dataclass(slots=True)
class Failures:
    """How many requests failed in a row, whichever layer tries again.

    Shared by requests that stand for one: the rest of a stream that broke, the GET that tells
    why a HEAD failed. So ``RetryPolicy.attempts`` bounds all of them together.
    """

    count: int = 0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Try again as Backblaze asks: from 1 s doubling to 64 s, 8 attempts, full jitter.

    Only errors that say ``retryable`` are tried again. ``Retry-After`` is obeyed; when it asks
    for more than ``max_delay`` the error comes out at once, with ``retry_after`` set, for the
    caller to schedule. Source: Backblaze, "B2 Integration Checklist", section on retries.

    Attributes:
        attempts: How often a request is sent at the most, the first time included.
        base_delay: Upper bound of the first pause, in seconds.
        max_delay: Upper bound of every pause, in seconds.
    """

    attempts: int
    base_delay: float
    max_delay: float

    async def run(
        self, attempt: Callable[[bool], Awaitable[T]], failures: Failures | None = None
    ) -> T:
        """Await ``attempt(fresh)`` until it succeeds; ``fresh`` asks for a new connection.

        At least once; ``failures`` counts on from those before.

        After a 503 or a broken connection the next attempt must not go over a pooled one: B2
        routes a new connection to another vault, and a server that closed one idle connection
        has often closed them all.
        """
        fresh = False
        while True:
            try:
                return await attempt(fresh)
            except StorageError as error:
                failures = failures or Failures()
                failures.count += 1
                pause = self.pause_after(error, failures.count)
                if pause is None:
                    raise
                logger.debug(
                    "retrying %s in %.2f s after attempt %d: %s",
                    error.operation,
                    pause,
                    failures.count,
                    type(error).__name__,
                    extra={
                        "operation": error.operation,
                        "code": error.code,
                        "attempt": failures.count,
                    },
                )
            await asyncio.sleep(pause)
            fresh = True

    def pause_after(self, error: StorageError, number: int) -> float | None:
        """Return the seconds to wait after failure ``number`` in a row; None to give up."""
        if not error.retryable or number >= self.attempts or isinstance(error, PoolTimeoutError):
            return None
        asked = error.retry_after or 0.0
        if asked > self.max_delay:
            return None
        # A pooled connection that the server has closed meanwhile is no sign of load.
        if number == 1 and isinstance(error, ConnectionFailedError):
            return 0.0
        ceiling = min(self.max_delay, self.base_delay * 2.0 ** (number - 1))
        return max(asked, random.uniform(0.0, ceiling))  # noqa: S311 - jitter, not a secret
