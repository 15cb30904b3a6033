"""Periodic uploads of the part that is still growing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from careflow_storage._log_fields import log_fields
from careflow_storage._transfer.bodies.growing_part import GrowingPart
from careflow_storage._transfer.live.part_queue import PartQueue
from careflow_storage.errors import StorageError

logger = logging.getLogger("careflow_storage")


class Flusher:
    """Uploads the growing part every ``interval`` seconds if it has grown, one flush at a time.

    Args:
        growing: Returns the number and the part that is growing, if there is one.
        queue: Returns the queue to flush to, given the first bytes of the part.
    """

    def __init__(
        self,
        key: str,
        interval: float,
        growing: Callable[[], tuple[int, GrowingPart] | None],
        queue: Callable[[bytes], PartQueue],
    ) -> None:
        self._key = key
        self._interval = interval
        self._growing = growing
        self._queue = queue
        self._flushed = (0, 0)
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def running(self) -> asyncio.Task[None] | None:
        """The task of the flush that is running, if one is."""
        return None if self._task is None or self._task.done() else self._task

    def start(self) -> None:
        """Schedule the first flush, one interval from now."""
        self._schedule(asyncio.get_running_loop().time() + self._interval)

    def stop(self) -> None:
        """Start no further flush; one that is running continues."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self, when: float) -> None:
        if not self._stopped:
            self._timer = asyncio.get_running_loop().call_at(when, self._start_flush)

    def _start_flush(self) -> None:
        next_time = asyncio.get_running_loop().time() + self._interval
        growing = self._growing()
        if growing is None or self._flushed == (growing[0], growing[1].size):
            self._schedule(next_time)
            return
        self._task = asyncio.create_task(self._flush(*growing))
        self._task.add_done_callback(lambda _: self._schedule(next_time))

    async def _flush(self, number: int, growing: GrowingPart) -> None:
        try:
            part = await growing.snapshot()
            if part is None:
                return
            try:
                await self._queue(part.head).flush(number, part)
                self._flushed = (number, part.size)
            finally:
                await part.release()
        except StorageError as error:
            logger.warning(
                "A flush failed; the next one is due in %g s: %s",
                self._interval,
                error,
                extra=log_fields("flush_failed", error, key=self._key),
            )
