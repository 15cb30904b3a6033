"""The parts of a call in progress, on their way beside the task that writes it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from careflow_storage._transfer.bodies.part_reader import Filling
from careflow_storage._transfer.bodies.parts import Part
from careflow_storage._transfer.progress import Meter, ProgressCallback, metered
from careflow_storage._transfer.tasks import cancellation_as_failure, raised_by_task, wait_out
from careflow_storage._transfer.upload.multipart import MultipartUpload
from careflow_storage._transfer.upload.scheduler import part_sender
from careflow_storage.errors import StorageClosedError, StorageError

logger = logging.getLogger("careflow_storage")


class LiveParts:
    """Sends full parts, ``concurrency`` at the same time, while one more may wait.

    One task does so from the first part on; what goes wrong there is raised to the writer.
    With ``keeps`` a part that fails does not take those with it that are on their way: what is
    stored without a gap can be kept. And the bytes of a part are held until it and all before
    it are stored, so that nothing is lost with a part in the middle. A part leaves the window of
    those on their way no sooner, which bounds what is held.
    """

    def __init__(
        self,
        upload: MultipartUpload,
        progress: ProgressCallback | None,
        concurrency: int,
        *,
        keeps: bool,
    ) -> None:
        self.upload = upload
        self._keeps = keeps
        self._failure: StorageError | None = None
        self._progress = progress
        self._concurrency = concurrency
        self._beginning: asyncio.Task[None] | None = None
        self._waiting: deque[tuple[int, Part]] = deque()
        self._after: dict[int, asyncio.Task[None]] = {}
        self._came = asyncio.Event()
        self._went = asyncio.Event()
        self._ended = False
        self._task: asyncio.Task[None] | None = None
        # With ``keeps``: the parts that are not stored without a gap, by number.
        self._in_hand: dict[int, Part] = {}
        self._stored: set[int] = set()
        self._moved = asyncio.Event()

    @property
    def in_hand(self) -> list[Part]:
        """The parts that are not stored without a gap before them, in their order."""
        return [self._in_hand[number] for number in sorted(self._in_hand)]

    @property
    def begun(self) -> bool:
        """Whether there is a multipart upload, or will be."""
        return self._task is not None or self.upload.upload_id is not None

    def put(self, number: int, part: Part, *, after: asyncio.Task[None] | None) -> None:
        """Take over a part; it is sent when ``after`` is over, and freed in any case."""
        if self._keeps:
            self._in_hand[number] = part
            part = part.borrowed()
        self._waiting.append((number, part))
        if after is not None:
            self._after[number] = after
        self._came.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(self._progress))
            self._task.add_done_callback(lambda _: self._went.set())

    async def room(self) -> None:
        """Wait until no part waits; raise what has gone wrong."""
        while self._waiting and self._failure is None and not self._is_over():
            self._went.clear()
            await self._went.wait()
        self._raise_failure()

    async def flush(self, number: int, part: Part) -> None:
        """Send what there is of a part; a longer one of the same number replaces it.

        AWS "UploadPart" and B2 "b2_upload_part": the last one wins. The part stays the caller's.
        """
        await self._begin()
        await self.upload.send(number, part, Meter(None))

    async def send(self, number: int, part: Part, meter: Meter) -> None:
        """Send a full part, for the `PartSender`."""
        if (flush := self._after.pop(number, None)) is not None:
            # Overtaken by the full part, it would replace it.
            await asyncio.wait({flush})
        try:
            await self.upload.send(number, part, meter)
        except StorageError as error:
            if not self._keeps:
                raise
            self._failure = self._failure or error
            self._came.set()
            self._went.set()
            self._moved.set()
            return
        if self._keeps:
            await self._settle(number)

    async def _settle(self, number: int) -> None:
        """Free the parts that are stored without a gap; wait until this one is among them."""
        self._stored.add(number)
        while self._in_hand and (first := min(self._in_hand)) in self._stored:
            await self._in_hand.pop(first).release()
            self._moved.set()
        while number in self._in_hand and self._failure is None:
            self._moved.clear()
            await self._moved.wait()

    async def release(self) -> None:
        """Free what is held, after `stop`."""
        while self._in_hand:
            await self._in_hand.popitem()[1].release()

    async def finish(self) -> None:
        """Wait until all parts are stored; raise what has gone wrong."""
        self._ended = True
        self._came.set()
        if self._task is not None:
            await asyncio.wait({self._task})
            if self._keeps and self._task.cancelled():
                await self._send_again()
        self._raise_failure()

    async def _send_again(self) -> None:
        """Send again what is in hand: at its end ``asyncio.run`` cancels all tasks, ours too."""
        missing = sorted(set(self._in_hand) - self._stored)
        self._waiting.extend((number, self._in_hand[number].borrowed()) for number in missing)
        # What was told of the progress is not told again.
        self._task = asyncio.create_task(self._run(None))
        await asyncio.wait({self._task})

    async def stop(self) -> None:
        """Drop what is not stored yet. Not to be cancelled."""
        for task in (self._task, self._beginning):
            if task is not None:
                task.cancel()
                await wait_out(task)
        await self._release_waiting()

    async def _run(self, progress: ProgressCallback | None) -> None:
        try:
            with cancellation_as_failure():
                await self._send_waiting(progress)
            if self._failure is not None:
                raise self._failure
        finally:
            await self._release_waiting()

    async def _send_waiting(self, progress: ProgressCallback | None) -> None:
        async with (
            metered(progress, None) as meter,
            part_sender(self, meter, self._concurrency) as sender,
        ):
            await self._begin()
            while (waiting := await self._next()) is not None:
                await sender.ready()
                if self._failure is not None:
                    break
                self._waiting.popleft()
                self._went.set()
                sender.send(*waiting)

    async def _begin(self) -> None:
        """Begin the upload once, whoever asks first; whoever stops waiting does not stop it."""
        if self._beginning is None or (self._beginning.done() and self.upload.upload_id is None):
            self._beginning = asyncio.create_task(self.upload.begin())
        if not self._beginning.done() or self.upload.upload_id is None:
            await asyncio.shield(self._beginning)

    async def _next(self) -> tuple[int, Part] | None:
        while not self._waiting or self._failure is not None:
            if self._ended or self._failure is not None:
                return None
            self._came.clear()
            await self._came.wait()
        return self._waiting[0]

    async def _release_waiting(self) -> None:
        try:
            while self._waiting:
                await self._waiting.popleft()[1].release()
        finally:
            if self._waiting:
                await self._release_waiting()

    def _is_over(self) -> bool:
        return self._task is not None and self._task.done()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._task is None or not self._task.done():
            return
        if self._task.cancelled():
            raise StorageClosedError("The recording was given up.")
        if (failure := self._task.exception()) is not None:
            raise raised_by_task(failure)


class Flusher:
    """Sends what there is of the growing part, every ``interval`` seconds if more has come.

    Never two at once. ``growing`` gives the part and its number, ``parts`` where to send it.
    """

    def __init__(
        self,
        key: str,
        interval: float,
        growing: Callable[[], tuple[int, Filling] | None],
        parts: Callable[[bytes], LiveParts],
    ) -> None:
        self._key = key
        self._interval = interval
        self._growing = growing
        self._parts = parts
        self._flushed = (0, 0)
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    @property
    def running(self) -> asyncio.Task[None] | None:
        """The flush that is under way, if one is."""
        return None if self._task is None or self._task.done() else self._task

    def start(self) -> None:
        """Flush for the first time after one interval."""
        self._flush_at(asyncio.get_running_loop().time() + self._interval)

    def end(self) -> None:
        """Begin no flush any more."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()

    def _flush_at(self, when: float) -> None:
        if not self._ended:
            self._timer = asyncio.get_running_loop().call_at(when, self._begin)

    def _begin(self) -> None:
        again = asyncio.get_running_loop().time() + self._interval
        growing = self._growing()
        if growing is None or self._flushed == (growing[0], growing[1].filled):
            self._flush_at(again)
            return
        self._task = asyncio.create_task(self._flush(*growing))
        self._task.add_done_callback(lambda _: self._flush_at(again))

    async def _flush(self, number: int, filling: Filling) -> None:
        try:
            part = await filling.snapshot()
            if part is None:
                return
            try:
                await self._parts(part.head).flush(number, part)
                self._flushed = (number, part.size)
            finally:
                await part.release()
        except StorageError as error:
            logger.warning(
                "A flush failed; the next one is due in %g s: %s",
                self._interval,
                error,
                extra={"key": self._key, "code": error.code},
            )
