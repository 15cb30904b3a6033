"""Sends the parts of an upload concurrently, up to a limit, and releases each afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from careflow_storage._transfer.bodies.parts import Part, check_size
from careflow_storage._transfer.part_reader import PartReader
from careflow_storage._transfer.progress import Meter
from careflow_storage._transfer.tasks import task_group
from careflow_storage._transfer.upload.multipart import MultipartUpload


class SendsParts(Protocol):
    """What a `PartSender` needs: a `MultipartUpload`, or a wrapper of one."""

    async def send(self, number: int, part: Part, meter: Meter) -> None: ...


class PartSender:
    """Sends parts of one upload, at most ``concurrency`` at the same time.

    Memory: that many parts, within the shared budget. Made by `part_sender`.
    """

    def __init__(
        self, upload: SendsParts, meter: Meter, concurrency: int, group: asyncio.TaskGroup
    ) -> None:
        self._upload = upload
        self._meter = meter
        self._window = asyncio.Semaphore(concurrency)
        self._group = group
        self._held: set[Part] = set()

    async def ready(self) -> None:
        """Wait until one more part may be sent. Call it before the bytes are read."""
        await self._window.acquire()

    def send(self, number: int, part: Part) -> None:
        """Start to send a part, after `ready`. It is released when it is stored or fails."""
        self.hold(part)
        self._group.create_task(self._send(number, part))

    def hold(self, part: Part) -> None:
        """Release this part at the end, unless its task does so before."""
        self._held.add(part)

    async def _send(self, number: int, part: Part) -> None:
        try:
            await self._upload.send(number, part, self._meter)
        finally:
            self._held.discard(part)
            await part.release()
            self._window.release()

    async def release_all(self) -> None:
        """Release the parts whose task was cancelled before its first step."""
        try:
            while self._held:
                await self._held.pop().release()
        finally:
            if self._held:
                await self.release_all()


@asynccontextmanager
async def part_sender(
    upload: SendsParts, meter: Meter, concurrency: int
) -> AsyncIterator[PartSender]:
    """Yield a `PartSender`. On leaving, wait for all parts, or raise the first error."""
    sender: PartSender | None = None
    try:
        async with task_group() as group:
            sender = PartSender(upload, meter, concurrency, group)
            yield sender
    finally:
        if sender is not None:
            await sender.release_all()


async def send_all(
    upload: MultipartUpload,
    first: Part,
    reader: PartReader,
    meter: Meter,
    *,
    declared: int | None,
    concurrency: int,
) -> None:
    """Send ``first`` and all parts after it. ``declared`` is the size of the body, if known.

    Raises `SizeMismatchError` as soon as a body has more bytes than it declared, or ends early.
    """
    read = 0
    async with part_sender(upload, meter, concurrency) as sender:
        sender.hold(first)
        number, part = 1, first
        await sender.ready()
        while part.size:
            read += part.size
            check_size(declared, read, ended=False)
            sender.send(number, part)
            number += 1
            await sender.ready()
            part = await reader.read(upload.sizes.size_of(number))
            sender.hold(part)
    check_size(declared, read, ended=True)
