"""taskiq: state, dependency, schedule, and tasks that a shutdown cuts off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from taskiq import BrokerMessage, InMemoryBroker, TaskiqDepends
from taskiq.schedule_sources import LabelScheduleSource

from careflow_storage import (
    BackblazeStorage,
    InvalidInputError,
    NotConfiguredError,
    StorageClosedError,
)
from careflow_storage.integrations.taskiq import (
    get_storage,
    install,
    schedule_abort_stale_uploads,
)
from careflow_storage.testing import B2Server
from tests.support.bodies import MIB, noise
from tests.support.unfinished import begin_upload

STORAGE = TaskiqDepends(get_storage)


@pytest.fixture
def broker() -> InMemoryBroker:
    return InMemoryBroker()


async def test_tasks_share_one_storage_which_closes_at_shutdown(
    server: B2Server, broker: InMemoryBroker
) -> None:
    seen: list[BackblazeStorage] = []
    install(broker, server.settings())

    @broker.task
    async def store(call_id: str, storage: BackblazeStorage = STORAGE) -> str:
        seen.append(storage)
        return (await storage.upload_recording(call_id, b"sound", "a.wav")).key

    await broker.startup()
    for number in range(2):
        result = await (await store.kiq(f"CA{number}")).wait_result(timeout=60)
        assert not result.is_err, result.error
        assert result.return_value.startswith(f"recordings/CA{number}/")
    assert seen == [broker.state.storage] * 2
    await broker.shutdown()
    with pytest.raises(StorageClosedError):
        await seen[0].list_files()


async def test_a_worker_may_start_again(server: B2Server, broker: InMemoryBroker) -> None:
    install(broker, server.settings())
    storages = []
    for _ in range(2):
        await broker.startup()
        storages.append(broker.state.storage)
        await storages[-1].list_files()
        await broker.shutdown()
    assert storages[0] is not storages[1]


async def test_a_worker_without_settings_does_not_start(broker: InMemoryBroker) -> None:
    install(broker)
    with pytest.raises(NotConfiguredError, match="BACKBLAZE_KEY_ID"):
        await broker.startup()
    await broker.shutdown()


async def test_a_broker_without_a_storage_gets_a_clear_error(broker: InMemoryBroker) -> None:
    @broker.task
    async def store(storage: BackblazeStorage = STORAGE) -> None: ...

    await broker.startup()
    result = await (await store.kiq()).wait_result(timeout=60)
    await broker.shutdown()
    assert isinstance(result.error, StorageClosedError)
    assert "install(broker)" in str(result.error.hint)


def test_bad_arguments_are_refused(broker: InMemoryBroker) -> None:
    no_broker: Any = "redis://localhost"
    with pytest.raises(InvalidInputError, match="broker must be an AsyncBroker"):
        install(no_broker)
    with pytest.raises(InvalidInputError, match="broker must be an AsyncBroker"):
        schedule_abort_stale_uploads(no_broker)
    with pytest.raises(InvalidInputError, match="grace"):
        install(broker, grace=-1)
    install(broker)
    with pytest.raises(InvalidInputError, match="already"):
        install(broker)
    with pytest.raises(InvalidInputError, match="older_than"):
        schedule_abort_stale_uploads(broker, older_than=timedelta())


async def test_a_task_that_the_shutdown_cuts_off_is_sent_again(
    server: B2Server, broker: InMemoryBroker
) -> None:
    half = asyncio.Event()
    sent: list[BrokerMessage] = []

    class Queue(InMemoryBroker):
        async def kick(self, message: BrokerMessage) -> None:
            if half.is_set():
                sent.append(message)
            else:
                await super().kick(message)

    queue = Queue()
    install(queue, server.settings(part_size=5 * MIB, multipart_threshold=5 * MIB), grace=60)

    @queue.task(task_name="store")
    async def store(call_id: str, storage: BackblazeStorage = STORAGE) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield noise(6 * MIB)
            half.set()
            await asyncio.Event().wait()

        await storage.upload_recording(call_id, chunks(), "a.wav")

    await queue.startup()
    task = await store.kiq("CA1")
    await half.wait()
    await queue.shutdown()
    assert server.incomplete_uploads() == []
    (message,) = sent
    assert (message.task_name, message.task_id) == ("store", task.task_id)
    again = queue.formatter.loads(message.message)
    assert again.args == ["CA1"]
    assert again.labels["X-Taskiq-requeue"] == "1"
    # The first run has stored no result: it is the second's.
    assert not await queue.result_backend.is_result_ready(task.task_id)


async def test_an_error_of_a_task_is_a_result_as_always(
    server: B2Server, broker: InMemoryBroker
) -> None:
    install(broker, server.settings())

    @broker.task
    async def read(storage: BackblazeStorage = STORAGE) -> None:
        await storage.get_file("missing")

    await broker.startup()
    result = await (await read.kiq()).wait_result(timeout=60)
    await broker.shutdown()
    assert isinstance(result.error, FileNotFoundError)


async def test_the_clean_up_is_scheduled_and_aborts_stale_uploads(
    server: B2Server, broker: InMemoryBroker
) -> None:
    install(broker, server.settings())
    task = schedule_abort_stale_uploads(
        broker, cron="5 4 * * *", older_than=timedelta(microseconds=1)
    )
    source = LabelScheduleSource(broker)
    await source.startup()
    (scheduled,) = await source.get_schedules()
    assert (scheduled.task_name, scheduled.cron) == (
        "careflow_storage:abort_stale_uploads",
        "5 4 * * *",
    )
    await broker.startup()
    await begin_upload(broker.state.storage, "recordings/a")
    # The server's times are in seconds: the upload is older than nothing in the next one.
    while not (await (await task.kiq()).wait_result(timeout=60)).return_value:
        pass
    await broker.shutdown()
    assert server.incomplete_uploads() == []
