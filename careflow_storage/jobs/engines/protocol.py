"""`Engine`: what a job needs of the place where its shards run."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from careflow_storage.jobs.results import ShardResult, ShardTask


class Engine(Protocol):
    """Runs shards. An engine is opened by the job that uses it, and closed at its end."""

    @property
    def capacity(self) -> int:
        """How many shards can run at once. May change while a job runs."""
        ...

    @property
    def workers(self) -> int:
        """How many workers share the job's rate, each with connections of its own."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    async def run(self, task: ShardTask) -> ShardResult:
        """Run one shard in a worker.

        Raises:
            StorageError: Something that concerns the whole job, such as refused credentials.
            WorkerLostError: Workers died of this shard, again and again.
        """
        ...
