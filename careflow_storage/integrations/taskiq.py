"""taskiq: one storage per worker process, and the dependency that returns it. Extra: ``taskiq``.

::

    install(broker)
    schedule_abort_stale_uploads(broker)

    @broker.task
    async def store(
        call_id: str, url: str, storage: Annotated[BackblazeStorage, TaskiqDepends(get_storage)]
    ) -> str: ...
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Unpack

from careflow_storage._in_flight import DEFAULT_GRACE, checked_grace
from careflow_storage._log_fields import log_fields
from careflow_storage._transfer.incomplete import checked_age
from careflow_storage.errors import InvalidInputError, MissingExtraError, StorageClosedError
from careflow_storage.integrations.worker_options import StorageOptions
from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage

try:
    from taskiq import (
        AsyncBroker,
        Context,
        NoResultError,
        TaskiqDepends,
        TaskiqEvents,
        TaskiqMessage,
        TaskiqMiddleware,
        TaskiqResult,
        TaskiqState,
    )
except ImportError as _missing:
    raise MissingExtraError("taskiq") from _missing

if TYPE_CHECKING:
    from taskiq import AsyncTaskiqDecoratedTask

logger: logging.Logger = logging.getLogger("careflow_storage")

_REQUEUED = "X-Taskiq-requeue"


def install(
    broker: AsyncBroker,
    settings: StorageSettings | None = None,
    *,
    grace: float = DEFAULT_GRACE,
    **options: Unpack[StorageOptions],
) -> None:
    """Open one storage when a worker process of ``broker`` starts, and close it when it stops.

    It is ``broker.state.storage``; `get_storage` is the dependency that returns it.

    At shutdown, calls in flight are cancelled and cleaned up. Their tasks are sent to the broker
    again: by itself taskiq acknowledges a task that was cut off.

    Args:
        broker: Call this once, where you make it.
        settings: Default: read from ``BACKBLAZE_*`` when a worker starts.
        grace: The most seconds for the clean-up at shutdown, and again for the tasks that go back
            to the broker. Give the worker more: ``--shutdown-timeout 15``.
        options: ``hooks`` and ``rate_limit``, as for `BackblazeStorage`.

    Raises:
        InvalidInputError: It is no broker, or has a storage already, or ``grace`` is not a number
            of seconds, 0 or more.
    """
    checked_grace(grace)
    _check_broker(broker)
    if any(isinstance(each, _StorageMiddleware) for each in broker.middlewares):
        raise InvalidInputError("The broker has a storage already.")
    middleware = _StorageMiddleware(settings, grace, options)
    middleware.set_broker(broker)
    # The first in the list is the last to see an error, and knows whether another sends it again.
    broker.middlewares.insert(0, middleware)
    broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, middleware.open)
    broker.add_event_handler(TaskiqEvents.WORKER_SHUTDOWN, middleware.close)


def get_storage(context: Annotated[Context, TaskiqDepends()]) -> BackblazeStorage:
    """Return the storage of this worker: a dependency for tasks.

    Raises:
        StorageClosedError: The broker has none, see `install`.
    """
    return _storage_of(context.broker)


def schedule_abort_stale_uploads(
    broker: AsyncBroker,
    *,
    cron: str = "17 3 * * *",
    older_than: timedelta = timedelta(days=1),
    prefix: str = "",
) -> AsyncTaskiqDecoratedTask[[], Any]:
    """Register a task that aborts the uploads that killed processes left in the bucket.

    ``taskiq scheduler`` with a ``LabelScheduleSource`` of this broker runs it. The task returns
    how many uploads it aborted, see `BackblazeStorage.abort_stale_uploads`.

    Args:
        broker: A broker with a storage, see `install`.
        cron: When, in UTC. Default: every night.
        older_than: Choose more time than your slowest upload needs for one part.
        prefix: Only uploads of keys that begin so.

    Raises:
        InvalidInputError: It is no broker, or ``older_than`` is not a positive timedelta.
    """
    _check_broker(broker)
    age = checked_age(older_than)

    async def abort_stale_uploads() -> int:
        return len(await _storage_of(broker).abort_stale_uploads(age, prefix))

    return broker.register_task(
        abort_stale_uploads,
        task_name="careflow_storage:abort_stale_uploads",
        schedule=[{"cron": cron}],
    )


def _storage_of(broker: AsyncBroker) -> BackblazeStorage:
    storage = getattr(broker.state, "storage", None)
    if isinstance(storage, BackblazeStorage):
        return storage
    raise StorageClosedError(
        "The broker has no open storage.",
        method="get_storage",
        hint="Call install(broker) where you make the broker. Only worker processes open it.",
    )


class _StorageMiddleware(TaskiqMiddleware):
    """Opens and closes the storage, and sends the tasks that closing has cut off once more."""

    def __init__(
        self, settings: StorageSettings | None, grace: float, options: StorageOptions
    ) -> None:
        super().__init__()
        self._settings = settings
        self._options = options
        self._grace = grace
        self._closing = False
        self._running: dict[str, asyncio.Task[Any] | None] = {}

    async def open(self, state: TaskiqState) -> None:
        self._closing = False
        state.storage = await BackblazeStorage(self._settings, **self._options).__aenter__()

    async def close(self, state: TaskiqState) -> None:
        self._closing = True
        storage = getattr(state, "storage", None)
        if not isinstance(storage, BackblazeStorage):
            return  # the startup has failed
        try:
            await storage.close(self._grace)
        finally:
            # The broker disconnects after this: what was cut off must be there by then.
            here = asyncio.current_task()
            running = {task for task in self._running.values() if task not in (None, here)}
            if running:
                await asyncio.wait(running, timeout=self._grace)

    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        self._running[message.task_id] = asyncio.current_task()
        return message

    async def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        if not self._closing or not isinstance(exception, StorageClosedError):
            return
        if isinstance(result.error, NoResultError):
            return  # a middleware for retries has sent it
        count = int(message.labels.get(_REQUEUED, 0)) + 1
        message.labels[_REQUEUED] = str(count)
        await self.broker.kick(self.broker.formatter.dumps(message))
        result.error = NoResultError()  # the next run stores a result
        logger.info(
            "The task %s was cut off, and sent to the broker again.",
            message.task_id,
            extra=log_fields("task_requeued", task_id=message.task_id),
        )

    async def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        # While it closes, a task is awaited to its acknowledgement.
        if not self._closing:
            self._running.pop(message.task_id, None)


def _check_broker(broker: object) -> None:
    if not isinstance(broker, AsyncBroker):
        raise InvalidInputError(f"broker must be an AsyncBroker, not {type(broker).__name__}.")
