"""The worker's loop: claim entries, deliver them, back off, and renew the leases."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from careflow_storage._log_fields import log_fields
from careflow_storage._transfer.tasks import task_group
from careflow_storage._uninterrupted import run_to_end
from careflow_storage.errors import StorageClosedError, StorageError, WrongLoopError
from careflow_storage.outbox.delivery import Delivery, Proof
from careflow_storage.outbox.errors import OutboxError
from careflow_storage.outbox.failures import (
    is_about_the_bucket,
    is_held,
    is_hopeless,
    is_not_ready,
)
from careflow_storage.outbox.queue import EntryQueue
from careflow_storage.outbox.rows import Claim, Failure

logger: logging.Logger = logging.getLogger("careflow_storage")

_SHORTEST_REST = 0.01
# A source, or a proxy before the bucket, may ask for years.
_LONGEST_ASKED = 3600.0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The limits and intervals of a worker; times in seconds."""

    concurrency: int
    poll_interval: float
    lease: float
    retry_base_delay: float
    retry_max_delay: float
    give_up_after: float
    tidy_interval: float = 60.0


class Worker:
    """Delivers due entries, until it is cancelled or none is left."""

    def __init__(
        self,
        queue: EntryQueue,
        delivery: Delivery,
        options: WorkerOptions,
        wake: asyncio.Event,
        *,
        remove: Callable[[str], Awaitable[None]],
        tidy: Callable[[], Awaitable[None]],
    ) -> None:
        self._queue = queue
        self._delivery = delivery
        self._options = options
        self._wake = wake
        self._remove = remove
        self._tidy = tidy
        self._running: dict[str, asyncio.Task[None]] = {}
        # How many times in a row the bucket has refused, and until when nothing is sent.
        self._refusals = 0
        self._closed_until = 0.0

    def hurry(self) -> None:
        """Deliver again at once, although the bucket has refused."""
        self._refusals, self._closed_until = 0, 0.0
        self._wake.set()

    async def run(self, *, until_empty: bool) -> None:
        """Deliver. When cancelled, stop the deliveries and release their leases."""
        try:
            async with task_group() as group:
                helpers = [
                    group.create_task(self._repeat(self._renew, self._options.lease / 4)),
                    group.create_task(self._repeat(self._tidy, self._options.tidy_interval)),
                ]
                await self._deliver(group, until_empty=until_empty)
                for helper in helpers:
                    helper.cancel()
        finally:
            await self._queue.release()

    async def _deliver(self, group: asyncio.TaskGroup, *, until_empty: bool) -> None:
        while True:
            self._wake.clear()
            try:
                for claim in await self._claim():
                    task = group.create_task(self._attempt(claim))
                    self._running[claim.entry.id] = task
                    task.add_done_callback(partial(self._ended, claim.entry.id))
                due = await self._queue.next_due()
            except OutboxError as error:
                self._continue_after(error)
                due = time.time() + self._options.poll_interval
            if until_empty and due is None and not self._running:
                return
            await self._rest(due)

    def _ended(self, entry_id: str, _: asyncio.Task[None]) -> None:
        del self._running[entry_id]
        self._wake.set()

    async def _claim(self) -> list[Claim]:
        free = self._free()
        if free <= 0:
            return []
        return await self._queue.claim(free, self._options.lease, self._running)

    def _free(self) -> int:
        if time.monotonic() < self._closed_until:
            return 0
        # One delivery at a time finds out whether the bucket accepts again.
        most = 1 if self._refusals else self._options.concurrency
        return most - len(self._running)

    async def _rest(self, due: float | None) -> None:
        pause, closed = self._options.poll_interval, self._closed_until - time.monotonic()
        if closed > 0:
            pause = min(pause, closed)
        elif due is not None and self._free() > 0:
            pause = min(pause, max(due - time.time(), _SHORTEST_REST))
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _attempt(self, claim: Claim) -> None:
        try:
            proof = await self._delivery.deliver(claim)
        except (StorageClosedError, WrongLoopError):
            raise
        except Exception as error:  # noqa: BLE001 - stored with the entry, logged, and retried
            await self._guarded(self._failed(claim, error))
            return
        self._refusals, self._closed_until = 0, 0.0
        # A cancellation must not come between the database and the deletion of the file.
        await run_to_end(self._guarded(self._settle(claim.entry.id, proof)))

    async def _settle(self, entry_id: str, proof: Proof) -> None:
        settled = await self._queue.settle(entry_id, proof.etag, proof.version_id)
        if settled is not None:
            await self._remove(settled)
        else:
            logger.warning(
                "The lease of %s ended before its delivery.",
                entry_id,
                extra=log_fields("lease_lost", entry_id=entry_id),
            )

    async def _failed(self, claim: Claim, error: Exception) -> None:
        blocked, fatal = is_about_the_bucket(error), is_hopeless(error)
        pause = self._pause_after(error, claim.failures + 1)
        if blocked:
            self._refused(error)
        text = str(error) if isinstance(error, StorageError) else f"{type(error).__name__}: {error}"
        entry = await self._queue.fail(
            claim.entry.id,
            Failure(
                error=text,
                pause=pause,
                fatal=fatal,
                blocked=blocked,
                held=is_held(error),
                not_ready_for=(
                    claim.source.ready_within if claim.source and is_not_ready(error) else None
                ),
            ),
            self._options.give_up_after,
        )
        if entry is None:
            return
        unforeseen = None if isinstance(error, StorageError) else error
        if entry.state == "dead":
            logger.warning(
                "Gave up delivering %r, its bytes are kept: %s"
                if entry.sha256 is not None
                else "Gave up fetching %r, its URL is kept: %s",
                entry.key,
                text,
                exc_info=unforeseen,
                extra=log_fields(
                    "delivery_given_up",
                    error,
                    key=entry.key,
                    entry_id=entry.id,
                    attempt=entry.attempts,
                ),
            )
        else:
            logger.log(
                logging.INFO if unforeseen is None else logging.ERROR,
                "Delivering %r again in %.0f s: %s",
                entry.key,
                pause,
                text,
                exc_info=unforeseen,
                extra=log_fields(
                    "delivery_failed",
                    error,
                    key=entry.key,
                    entry_id=entry.id,
                    attempt=entry.attempts,
                    delay=pause,
                ),
            )

    def _refused(self, error: Exception) -> None:
        # Refusals of concurrent deliveries count once.
        if time.monotonic() >= self._closed_until:
            self._refusals += 1
            pause = self._pause_after(error, self._refusals)
            self._closed_until = time.monotonic() + pause
            logger.warning(
                "The bucket refuses; the outbox waits for %.0f s: %s",
                pause,
                error,
                extra=log_fields("bucket_refuses", error, delay=pause),
            )

    def _pause_after(self, error: Exception, number: int) -> float:
        options = self._options
        ceiling = min(options.retry_max_delay, options.retry_base_delay * 2.0 ** min(number, 30))
        asked = min(getattr(error, "retry_after", None) or 0.0, _LONGEST_ASKED)
        return max(asked, ceiling * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret

    async def _renew(self) -> None:
        running = dict(self._running)
        ours = await self._queue.renew(running, self._options.lease) if running else set()
        for entry_id, task in running.items():
            if entry_id not in ours and entry_id in self._running:
                # This process was suspended, and another has the lease now.
                task.cancel()

    async def _repeat(self, job: Callable[[], Awaitable[None]], pause: float) -> None:
        while True:
            await asyncio.sleep(pause)
            await self._guarded(job())

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except OutboxError as error:
            self._continue_after(error)

    def _continue_after(self, error: OutboxError) -> None:
        # A lock or a full disk passes. Until then leases end, and the next attempt finds by a HEAD
        # what could not be written.
        if not error.retryable:
            raise error
        logger.warning(
            "The outbox continues after an error: %s",
            error,
            extra=log_fields("outbox_error", error),
        )
