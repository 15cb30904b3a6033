"""Calls the function of a map job for each object of a shard."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from careflow_storage.errors import StorageError
from careflow_storage.jobs._shard.concurrently import gather_some
from careflow_storage.jobs._shard.failures import ends_job
from careflow_storage.jobs._shard.map_functions import MapFunction, as_json, describe
from careflow_storage.jobs._shard.outcome import Outcome
from careflow_storage.jobs.models import MapJob
from careflow_storage.jobs.results import ObjectError
from careflow_storage.models import FileInfo
from careflow_storage.storage import BackblazeStorage

BLOCKING_SECONDS: Final = 1.0
"""A function that holds the event loop for longer is noted."""


class Mapping:
    """Calls a function for objects, ``job.concurrency`` at once, and counts.

    Attributes:
        values: What the function returned, as JSON, by key; nothing where it returned None.
    """

    def __init__(
        self, storage: BackblazeStorage, job: MapJob, function: MapFunction, outcome: Outcome
    ) -> None:
        self._storage = storage
        self._job = job
        self._function = function
        self._outcome = outcome
        self._any_done = False
        self._slowest = 0.0
        self.values: dict[str, str] = {}

    async def add(self, files: Sequence[FileInfo]) -> None:
        """Call the function for these objects, and wait for all of them."""
        work = (partial(self._call, file) for file in files)
        await gather_some(work, at_once=self._job.concurrency)

    async def _call(self, file: FileInfo) -> None:
        call = self._function.start(self._storage, file)
        scope = asyncio.timeout(self._job.timeout)
        try:
            async with scope:
                value = await call
            if value is not None:
                self.values[file.key] = as_json(value)
        except StorageError as error:
            if ends_job(error, any_done=self._any_done):
                raise
            self._outcome.add_error(file.key, error)
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            self._fail(file.key, error)
        # Code of the caller, which may raise anything. sys.exit() is to end no worker.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            self._fail(file.key, self._timed_out() if scope.expired() else error)
        else:
            self._any_done = True
            self._outcome.objects += 1
            self._outcome.bytes += file.size
        finally:
            self._note(file.key, call.longest)

    def _timed_out(self) -> TimeoutError:
        return TimeoutError(f"It took longer than {self._job.timeout} seconds.")

    def _fail(self, key: str, error: BaseException) -> None:
        self._outcome.errors.append(
            ObjectError(key=key, kind=type(error).__name__, message=describe(error))
        )

    def _note(self, key: str, seconds: float) -> None:
        if seconds < BLOCKING_SECONDS:
            return
        self._outcome.count("blocked_loop")
        if seconds > self._slowest:
            self._slowest = seconds
            self._outcome.notes[:] = [
                f"{self._function.name} blocked the event loop for {seconds:.1f} s at {key!r}: "
                "nothing else of the worker ran meanwhile. Await asyncio.to_thread(...) for what "
                "blocks."
            ]


def _is_cancelled() -> bool:
    """Whether this task was cancelled, and not only something that the function awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
