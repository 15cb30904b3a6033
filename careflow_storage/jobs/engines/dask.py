"""`DaskEngine`: shards run on a Dask cluster."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable
from contextlib import AsyncExitStack, suppress
from importlib import import_module
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

from careflow_storage._executor import in_thread
from careflow_storage._version import __version__
from careflow_storage.errors import InvalidInputError, MissingExtraError, StorageError, check_text
from careflow_storage.jobs.errors import ClusterError, WorkerLostError
from careflow_storage.jobs.models import AnyJob
from careflow_storage.jobs.results import ShardResult, ShardTask

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

T = TypeVar("T")

_LOOPBACK: Final = "127.0.0.1"

_REFRESH_SECONDS: Final = 1.0
"""Workers come and go: how often the scheduler is asked for them."""

_STOP_SECONDS: Final = 10.0
"""How long the end of a job waits for shards that it has cancelled."""

_SUBMISSIONS: Final = 3
"""How often a shard is submitted. The scheduler tries each a few times (``allowed-failures``)."""


class DaskEngine:
    """Runs the shards of a job on a Dask cluster: one that exists, or one on this machine.

    ::

        DaskEngine("tls://scheduler.internal:8786", security=Security(...))
        DaskEngine(workers=4)

    Opening it connects to the scheduler, and checks that each worker has this version of
    careflow-storage. Before its first shard, a job checks that each worker finds the credentials.
    Workers may come and go while it runs: the shards of one that dies run again on another.

    Args:
        address: The scheduler's. Any process that can reach it can run code on its workers: use
            ``security``, or a private network.
        workers: Starts this number of worker processes on this machine instead, and ends them with
            the job. They encrypt and authenticate what they send with a temporary certificate. A
            script that uses this must guard its start with ``if __name__ == "__main__":``.
        shards_per_worker: How many shards each of these processes runs at once. The workers of an
            existing cluster run one for each of their threads.
        security: The certificates for an address that begins with ``tls://``:
            `distributed.Security`.
        timeout: Seconds for the scheduler to be reached, and for a first worker to be there.

    Raises:
        InvalidInputError: Both or neither of ``address`` and ``workers`` were passed, or a number
            is not positive.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        shards_per_worker: int = 2,
        security: Security | None = None,
        timeout: float = 30.0,
    ) -> None:
        if (address is None) == (workers is None):
            raise InvalidInputError(
                "DaskEngine takes either an address or a number of workers.",
                hint='DaskEngine("tcp://scheduler:8786") or DaskEngine(workers=2)',
            )
        if address is not None:
            check_text(address, "address")
        counts = {"workers": workers, "shards_per_worker": shards_per_worker}
        for name, value in counts.items():
            if value is None:
                continue
            if type(value) is not int or value < 1:
                raise InvalidInputError(f"{name} must be an int of at least 1, not {value!r}.")
        if not timeout > 0:
            raise InvalidInputError(f"timeout must be greater than 0, not {timeout!r}.")
        self._address = address
        self._start_workers = workers
        self._shards_per_worker = shards_per_worker
        self._security = security
        self._timeout = timeout
        self._stack = AsyncExitStack()
        self._client: Client | None = None
        self._in_use = False
        self._shards: dict[str, int] = {}
        self._checked: set[str] = set()
        self._checking = asyncio.Lock()
        self._token = secrets.token_hex(4)
        self._numbers = count(1)

    @property
    def capacity(self) -> int:
        """How many shards the cluster runs at once: the number of its threads."""
        return sum(self._shards.values())

    @property
    def workers(self) -> int:
        """The number of workers, each of which gets an equal share of a job's rate."""
        return len(self._shards)

    async def __aenter__(self) -> Self:
        """Connect, and check the workers.

        Raises:
            InvalidInputError: Another job uses this engine.
            MissingExtraError: The extra ``jobs`` is not installed.
            ClusterError: The scheduler cannot be reached, has no workers, or a worker has another
                version of careflow-storage.
        """
        try:
            await in_thread(import_module, "careflow_storage.jobs.engines._dask_worker")
        except ModuleNotFoundError as error:
            raise MissingExtraError("jobs") from error
        if self._in_use:
            raise InvalidInputError(
                "Another job uses this engine.", hint="Make an engine for each job that runs."
            )
        async with AsyncExitStack() as stack:
            self._in_use = True
            stack.callback(self._set_unused)
            client = await self._connect(stack)
            self._shards = await _threads_of_workers(client)
            stack.push_async_callback(self._stop_shards, client)
            refreshing = asyncio.create_task(self._refresh(client))
            stack.push_async_callback(asyncio.wait, [refreshing])
            stack.callback(refreshing.cancel)
            self._client = client
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client = None
        await self._stack.aclose()

    def _set_unused(self) -> None:
        self._in_use = False

    async def run(self, task: ShardTask) -> ShardResult:
        """Run one shard on a worker.

        If this is cancelled, the worker cancels the shard.

        Raises:
            ClusterError: The scheduler is gone, or a worker cannot run the job.
            WorkerLostError: The workers died that ran this shard.
            StorageError: What concerns the whole job. The message names the worker.
        """
        from distributed.comm.core import CommClosedError

        try:
            return await self._run(task)
        except CommClosedError as error:
            raise _connection_lost(str(error)) from error

    async def _run(self, task: ShardTask) -> ShardResult:
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        client = self._opened()
        await self._check(client, task.job)
        for _ in range(_SUBMISSIONS):
            # Dask would take two tasks with equal keys for one. Its dashboard shows the key.
            key = f"careflow-{task.job.kind}-{task.job.job_id}-{self._token}-{next(self._numbers)}"
            future = client.submit(
                _worker().run_in_worker,
                task.model_dump_json(),
                key,
                __version__,
                key=key,
                pure=False,
            )
            try:
                result = await cast("Awaitable[str | StorageError]", future)
                if isinstance(result, StorageError):
                    raise result
                # Else the worker has stopped, but not died.
                if result != _worker().STOPPED:
                    return ShardResult.model_validate_json(result)
            except KilledWorker:
                continue
            except FutureCancelledError as error:
                raise _connection_lost(error.reason) from error
            finally:
                # If it still runs, the worker finds out that no client wants its result.
                future.release()
        raise WorkerLostError(
            "Every worker that ran this shard died.",
            retryable=True,
            hint="Look into the logs of the workers: perhaps their memory limit is too low.",
        )

    async def _connect(self, stack: AsyncExitStack) -> Client:
        from distributed import Client, LocalCluster
        from distributed.security import Security

        try:
            cluster = None
            if self._start_workers is not None:
                cluster = await stack.enter_async_context(
                    LocalCluster(
                        n_workers=self._start_workers,
                        threads_per_worker=self._shards_per_worker,
                        security=self._security or Security.temporary(),
                        host=_LOOPBACK,
                        # No dashboard. The HTTP server of the scheduler is there all the same,
                        # by default on all interfaces. That of a worker is where the worker is.
                        dashboard_address=f"{_LOOPBACK}:0",
                        scheduler_kwargs={"dashboard": False},
                        preload=["careflow_storage.jobs.engines._dask_preload"],
                        asynchronous=True,
                    )
                )
            client = Client(
                cluster or self._address,
                security=None if cluster else self._security,
                timeout=self._timeout,
                asynchronous=True,
                set_as_default=False,
            )
            # Before it has started: one that could not start must be closed, too.
            stack.push_async_exit(client)
            await client
            await cast("Awaitable[None]", client.wait_for_workers(1, timeout=self._timeout))
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            where = self._address or "this machine"
            raise ClusterError(
                f"No Dask cluster with workers at {where}: {error}.",
                retryable=isinstance(error, OSError),
                hint="Check the address, the certificates, and that a worker runs.",
            ) from error
        return client

    async def _check(self, client: Client, job: AnyJob) -> None:
        """Check once for a job that each worker can run it."""
        async with self._checking:
            if job.job_id in self._checked:
                return
            problems = await _on_all_workers(
                client, _worker().check_worker, job.model_dump_json(), __version__
            )
            if found := [str(problem) for problem in problems.values() if problem is not None]:
                raise ClusterError(
                    " ".join(found),
                    hint="Each worker needs the same version, and reads the credentials from its "
                    "own environment or files.",
                )
            self._checked.add(job.job_id)

    async def _refresh(self, client: Client) -> None:
        """Keep the number of workers current, until the scheduler is gone."""
        with suppress(OSError):  # the shards that run report it
            while client.status == "running":
                await asyncio.sleep(_REFRESH_SECONDS)
                self._shards = await _threads_of_workers(client)

    async def _stop_shards(self, client: Client) -> None:
        if client.status != "running":
            return
        # Without its scheduler a worker stops them itself.
        with suppress(OSError):
            async with asyncio.timeout(_STOP_SECONDS):
                await _on_all_workers(client, _worker().stop_shards, self._token)

    def _opened(self) -> Client:
        if self._client is None:
            raise ClusterError("The engine is not open.", hint="async with DaskEngine(...): ...")
        if self._client.status != "running":
            raise _connection_lost(self._client.status)
        return self._client


def _worker() -> Any:
    """Return the module that needs Dask. It is loaded already."""
    return import_module("careflow_storage.jobs.engines._dask_worker")


def _connection_lost(reason: str) -> ClusterError:
    return ClusterError(
        f"The connection to Dask's scheduler was lost ({reason}).",
        retryable=True,
        hint="Resume the job when the scheduler and its workers run again.",
    )


async def _threads_of_workers(client: Client) -> dict[str, int]:
    return await cast("Awaitable[dict[str, int]]", client.nthreads())


async def _on_all_workers(client: Client, function: Any, *arguments: str) -> dict[str, Any]:
    """Call a function on each worker; return the results, or exceptions, by address."""
    return await cast(
        "Awaitable[dict[str, Any]]", client.run(function, *arguments, on_error="return")
    )
