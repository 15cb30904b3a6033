"""The retry policy of the data plane and the control plane."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from careflow_storage._log_fields import log_fields
from careflow_storage._observer import Observer
from careflow_storage.errors import ConnectionFailedError, PoolTimeoutError, StorageError
from careflow_storage.rate_limit import RateLimit

logger = logging.getLogger("careflow_storage")

T = TypeVar("T")

# A server that asks for more will not respond in the time of any job.
_LONGEST_PAUSE = 3600.0


@dataclass(slots=True)
class Failures:
    """The number of consecutive failed requests.

    Shared by requests that belong together, such as those for the rest of a broken stream, or a
    HEAD and the GET that finds out why it failed. ``RetryPolicy.attempts`` limits them together.
    """

    count: int = 0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retries as Backblaze asks: pauses from 1 s doubling to 64 s, 8 attempts, full jitter.

    Only ``retryable`` errors are retried. ``Retry-After`` is obeyed. If it exceeds ``max_delay``,
    the error is raised at once, with ``retry_after`` set. Source: Backblaze, "B2 Integration
    Checklist", section on retries.

    Attributes:
        attempts: The most times that a request is sent, the first one included.
        base_delay: The upper bound of the first pause, in seconds.
        max_delay: The upper bound of every pause, in seconds.
        rate: The rate limit to inform of refusals. A ``Retry-After`` that exceeds ``max_delay``
            pauses all requests under it, and the refused one is sent again after that.
        observer: Reports each retry.
    """

    attempts: int
    base_delay: float
    max_delay: float
    rate: RateLimit | None = None
    observer: Observer | None = None

    async def run(
        self, attempt: Callable[[bool], Awaitable[T]], failures: Failures | None = None
    ) -> T:
        """Await ``attempt(fresh)`` until it succeeds, at least once.

        ``fresh`` asks for a new connection: after a 503 B2 routes a new one to another vault, and
        a server that closed one idle connection has often closed them all. ``failures`` counts
        earlier failures, too.
        """
        fresh = False
        while True:
            try:
                return await attempt(fresh)
            except StorageError as error:
                failures = failures or Failures()
                failures.count += 1
                pause = self.pause_after(error, failures.count)
                if self.rate is not None and self._slow_down(self.rate, error):
                    # The rate limit holds the next attempt.
                    pause = None if failures.count >= self.attempts else 0.0
                if pause is None:
                    raise
                logger.debug(
                    "retrying %s in %.2f s after attempt %d: %s",
                    error.operation,
                    pause,
                    failures.count,
                    type(error).__name__,
                    extra=log_fields("retry_scheduled", error, attempt=failures.count, delay=pause),
                )
                if self.observer is not None:
                    self.observer.retry(error, failures.count, pause)
            await asyncio.sleep(pause)
            fresh = True

    def pause_after(self, error: StorageError, number: int) -> float | None:
        """Return the seconds to wait after consecutive failure ``number``; None to give up."""
        if not error.retryable or number >= self.attempts or isinstance(error, PoolTimeoutError):
            return None
        asked = error.retry_after or 0.0
        if asked > self.max_delay:
            return None
        # The server may have closed a pooled connection. That is no sign of load.
        if number == 1 and isinstance(error, ConnectionFailedError):
            return 0.0
        ceiling = min(self.max_delay, self.base_delay * 2.0 ** (number - 1))
        return max(asked, random.uniform(0.0, ceiling))  # noqa: S311 - jitter, not a secret

    def _slow_down(self, rate: RateLimit, error: StorageError) -> bool:
        """Report a refusal to the rate limit; return whether all requests now pause."""
        if not error.retryable:
            return False
        # B2's 503 "no tomes available" has another code: one vault is busy, at any rate. The
        # response to HEAD has no code.
        if error.status == 429 or (error.status == 503 and error.code in (None, "SlowDown")):
            rate.slow_down()
        asked = error.retry_after or 0.0
        if not self.max_delay < asked <= _LONGEST_PAUSE:
            return False
        rate.pause(asked)
        return True
