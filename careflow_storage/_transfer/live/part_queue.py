"""The parts of a recording in progress, uploaded by a task of their own."""

from __future__ import annotations

import asyncio
from collections import deque

from careflow_storage._transfer.bodies.parts import Part
from careflow_storage._transfer.progress import Meter, ProgressCallback, metered
from careflow_storage._transfer.tasks import cancellation_as_failure, raised_by_task
from careflow_storage._transfer.upload.multipart import MultipartUpload
from careflow_storage._transfer.upload.scheduler import part_sender
from careflow_storage._uninterrupted import wait_out
from careflow_storage.errors import StorageClosedError, StorageError


class PartQueue:
    """Uploads up to ``concurrency`` parts at once; one more may wait.

    The first part starts a task that uploads all of them. `wait_for_room` and `finish` raise its
    error.

    With ``keeps`` a failed part does not cancel the parts that are being sent: what is confirmed
    without a gap can be kept. The bytes of a part stay available until this part and all parts
    before it are confirmed, and so long it counts towards ``concurrency``, which bounds the
    memory.
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
        self._added = asyncio.Event()
        self._taken = asyncio.Event()
        self._ended = False
        self._task: asyncio.Task[None] | None = None
        # With ``keeps``: the parts from the first unconfirmed one on, by number.
        self._unconfirmed: dict[int, Part] = {}
        self._confirmed: set[int] = set()
        self._released = asyncio.Event()

    @property
    def unconfirmed(self) -> list[Part]:
        """With ``keeps``: the parts from the first unconfirmed one on, in order."""
        return [self._unconfirmed[number] for number in sorted(self._unconfirmed)]

    @property
    def has_upload(self) -> bool:
        """Whether the multipart upload has begun, or a task is about to begin it."""
        return self._task is not None or self.upload.upload_id is not None

    def put(self, number: int, part: Part, *, after: asyncio.Task[None] | None) -> None:
        """Queue a part, which the queue then owns; send it when ``after`` has ended."""
        if self._keeps:
            self._unconfirmed[number] = part
            part = part.borrowed()
        self._waiting.append((number, part))
        if after is not None:
            self._after[number] = after
        self._added.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(self._progress))
            self._task.add_done_callback(lambda _: self._taken.set())

    async def wait_for_room(self) -> None:
        """Wait until no part waits to be sent; raise the error of the upload, if it failed."""
        while self._waiting and self._failure is None and not self._has_stopped():
            self._taken.clear()
            await self._taken.wait()
        self._raise_failure()

    async def flush(self, number: int, part: Part) -> None:
        """Upload a part that still grows; a later upload of the same number replaces it.

        AWS "UploadPart" and B2 "b2_upload_part": the last upload wins. The caller keeps the part.
        """
        await self._begin()
        await self.upload.send(number, part, Meter(None))

    async def send(self, number: int, part: Part, meter: Meter) -> None:
        """Upload a full part; called by the `PartSender`."""
        if (flush := self._after.pop(number, None)) is not None:
            # A flush that ended later would replace the full part.
            await asyncio.wait({flush})
        try:
            await self.upload.send(number, part, meter)
        except StorageError as error:
            if not self._keeps:
                raise
            self._failure = self._failure or error
            self._added.set()
            self._taken.set()
            self._released.set()
            return
        if self._keeps:
            await self._release_confirmed(number)

    async def _release_confirmed(self, number: int) -> None:
        """Free the parts that are confirmed without a gap; wait until ``number`` is one of them."""
        self._confirmed.add(number)
        while self._unconfirmed and (first := min(self._unconfirmed)) in self._confirmed:
            await self._unconfirmed.pop(first).release()
            self._released.set()
        while number in self._unconfirmed and self._failure is None:
            self._released.clear()
            await self._released.wait()

    async def release(self) -> None:
        """Free the bytes of all parts, after `stop`."""
        while self._unconfirmed:
            await self._unconfirmed.popitem()[1].release()

    async def finish(self) -> None:
        """Wait until all parts are confirmed; raise the error of the upload, if it failed."""
        self._ended = True
        self._added.set()
        if self._task is not None:
            await asyncio.wait({self._task})
            if self._keeps and self._task.cancelled():
                await self._send_again()
        self._raise_failure()

    async def _send_again(self) -> None:
        """Send the unconfirmed parts again: ``asyncio.run`` cancels all tasks when it ends."""
        missing = sorted(set(self._unconfirmed) - self._confirmed)
        self._waiting.extend((number, self._unconfirmed[number].borrowed()) for number in missing)
        # Without progress: the callback has seen the bytes of these parts.
        self._task = asyncio.create_task(self._run(None))
        await asyncio.wait({self._task})

    async def stop(self) -> None:
        """Cancel what is being sent, and drop what waits. Must not be cancelled."""
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
                self._taken.set()
                sender.send(*waiting)

    async def _begin(self) -> None:
        """Begin the upload unless it has begun; a cancelled caller does not cancel this."""
        if self._beginning is None or (self._beginning.done() and self.upload.upload_id is None):
            self._beginning = asyncio.create_task(self.upload.begin())
        if not self._beginning.done() or self.upload.upload_id is None:
            await asyncio.shield(self._beginning)

    async def _next(self) -> tuple[int, Part] | None:
        while not self._waiting or self._failure is not None:
            if self._ended or self._failure is not None:
                return None
            self._added.clear()
            await self._added.wait()
        return self._waiting[0]

    async def _release_waiting(self) -> None:
        try:
            while self._waiting:
                await self._waiting.popleft()[1].release()
        finally:
            if self._waiting:
                await self._release_waiting()

    def _has_stopped(self) -> bool:
        return self._task is not None and self._task.done()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._task is None or not self._task.done():
            return
        if self._task.cancelled():
            raise StorageClosedError("The recording was aborted.")
        if (failure := self._task.exception()) is not None:
            raise raised_by_task(failure)
