"""Celery and Dramatiq: the portal of an app, and the task that aborts stale uploads."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import celery
import celery.schedules
import celery.signals
import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from careflow_storage import BackblazeStorage, InvalidInputError, StorageClosedError
from careflow_storage.integrations import celery as for_celery
from careflow_storage.integrations import dramatiq as for_dramatiq
from careflow_storage.testing import B2Server
from tests.support.unfinished import begin_upload

DAY = timedelta(days=1)


@pytest.fixture
def app() -> Iterator[Any]:
    app = celery.Celery("tests", set_as_current=False)
    app.conf.task_always_eager = True
    yield app
    app.close()


def test_a_task_calls_the_storage(server: B2Server, app: Any) -> None:
    portal = for_celery.install(app, server.settings())

    @app.task
    def store(call_id: str) -> str:
        return portal.call(BackblazeStorage.upload_recording, call_id, b"sound", "a.wav").key

    key = store.delay("CA1").get()
    assert server.versions(key)[0].body == b"sound"
    celery.signals.worker_process_shutdown.send(None, pid=1, exitcode=0)
    with pytest.raises(StorageClosedError):
        store.delay("CA1").get()


def test_the_clean_up_is_in_the_schedule_and_aborts_stale_uploads(
    server: B2Server, app: Any
) -> None:
    portal = for_celery.install(app, server.settings())
    portal.call(begin_upload, "recordings/a")
    schedule = celery.schedules.crontab(minute=5, hour=4)
    task = for_celery.schedule_abort_stale_uploads(
        app, portal, schedule=schedule, older_than=timedelta(microseconds=1)
    )
    app.finalize()
    entry = app.conf.beat_schedule["careflow_storage.abort_stale_uploads"]
    assert (entry["task"], entry["schedule"]) == (task.name, schedule)
    # The server's times are in seconds: the upload is older than nothing in the next one.
    while not app.tasks[entry["task"]].delay().get():
        pass
    portal.close()
    assert server.incomplete_uploads() == []


def test_bad_arguments_are_refused(app: Any) -> None:
    with pytest.raises(InvalidInputError, match="app must be a Celery app, not str"):
        for_celery.install("redis://localhost")
    with pytest.raises(InvalidInputError, match="grace"):
        for_celery.install(app, grace=-1)
    portal = for_celery.install(app)
    with pytest.raises(InvalidInputError, match="older_than"):
        for_celery.schedule_abort_stale_uploads(app, portal, older_than=-DAY)


@pytest.fixture
def broker() -> Iterator[StubBroker]:
    broker = StubBroker()
    broker.emit_after("process_boot")
    yield broker
    broker.close()


def test_actors_call_the_storage_until_the_worker_stops(
    server: B2Server, broker: StubBroker
) -> None:
    portal = for_dramatiq.install(broker, server.settings())
    portal.call(begin_upload, "recordings/a")

    @dramatiq.actor(broker=broker)
    def store(call_id: str) -> None:
        portal.call(BackblazeStorage.upload_recording, call_id, b"sound", "a.wav")

    clean_up = for_dramatiq.abort_stale_uploads_actor(
        broker, portal, older_than=timedelta(microseconds=1)
    )
    worker = dramatiq.Worker(broker, worker_timeout=100)
    worker.start()
    for number in range(3):
        store.send(f"CA{number}")
    broker.join("default", timeout=60_000)
    worker.join()
    # The server's times are in seconds: the upload is older than nothing in the next one.
    while not clean_up():
        pass
    worker.stop()
    assert len(server.versions()) == 3
    assert server.incomplete_uploads() == []
    with pytest.raises(StorageClosedError):
        portal.call(BackblazeStorage.list_files)


def test_a_second_portal_of_a_broker_is_refused(broker: StubBroker) -> None:
    portal = for_dramatiq.install(broker)
    with pytest.raises(InvalidInputError, match="already"):
        for_dramatiq.install(broker)
    no_broker: Any = "redis://localhost"
    with pytest.raises(InvalidInputError, match="broker must be a Broker"):
        for_dramatiq.install(no_broker)
    with pytest.raises(InvalidInputError, match="older_than"):
        for_dramatiq.abort_stale_uploads_actor(broker, portal, older_than=-DAY)
