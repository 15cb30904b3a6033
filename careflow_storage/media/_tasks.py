"""Runs one task on one version of an object, in a child process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage.errors import InvalidInputError, MissingExtraError
from careflow_storage.media._process import media_process
from careflow_storage.media._source import ObjectSource
from careflow_storage.protection import CustomerKey
from careflow_storage.storage import BackblazeStorage

MiB = 1024 * 1024

RAW_FORMATS = ("mulaw", "alaw")

# Each process has one thread: more of them than cores take longer and need more memory.
_PROCESSES = max(1, os.cpu_count() or 1)
_turns: WeakKeyDictionary[BackblazeStorage, asyncio.Semaphore] = WeakKeyDictionary()


class Limits(NamedTuple):
    """What a child process may use for a file of a size."""

    cpu_seconds: int
    cpu_seconds_per_mib: float
    memory: int
    files: int = 0
    writes: bool = False

    def of(self, size: int) -> dict[str, int]:
        """Return the limits as the child process takes them."""
        cpu = self.cpu_seconds + int(self.cpu_seconds_per_mib * size / MiB)
        # An index is smaller than what it is the index of.
        written = size + size // 2 + MiB if self.writes else 0
        return {"cpu": cpu, "memory": self.memory, "written": written, "files": self.files}


class TaskResult(NamedTuple):
    """The result of a child process, and the version that it read."""

    head: ObjectHead
    content: dict[str, Any]


async def run_task(
    storage: BackblazeStorage,
    task: str,
    key: str,
    limits: Limits,
    *,
    version_id: str | None,
    encryption: CustomerKey | None,
    format: str | None,  # noqa: A002 - as in the public functions
    job: Mapping[str, Any] | None = None,
) -> TaskResult:
    """Run a task. 1 HEAD, and a GET for each range that is read.

    Raises:
        MissingExtraError: PyAV or NumPy is not installed.
        InvalidInputError: There is no such ``format``.
    """
    if format not in (None, *RAW_FORMATS):
        raise InvalidInputError(f"format must be one of {', '.join(RAW_FORMATS)}, not {format!r}.")
    if find_spec("av") is None or find_spec("numpy") is None:
        raise MissingExtraError("media")
    context = storage._context()
    turns = _turns.setdefault(storage, asyncio.Semaphore(_PROCESSES))
    async with turns, media_process(task, context.threads) as process:
        # Meanwhile the process loads its libraries.
        head = await storage._head(key, version_id, encryption)
        allowed = limits.of(head.file.size)
        description = {
            "size": head.file.size,
            "content_type": head.file.content_type,
            "format": format,
            "limits": allowed,
            **(job or {}),
        }
        async with ObjectSource(context, head, encryption) as source:
            # Twice the processor time: other processes need the cores, too.
            silence = 30.0 + 2 * allowed["cpu"]
            return TaskResult(head, await process.run(description, source.read, silence))
