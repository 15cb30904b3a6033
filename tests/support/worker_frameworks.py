"""A worker of each framework, with one task: store a recording from a URL, once."""

from __future__ import annotations

from dataclasses import dataclass, replace

JOB = """
import os
from datetime import UTC, datetime
from careflow_storage import BackblazeStorage

async def store(storage: BackblazeStorage, name: str, timeout: float | None = None) -> str:
    result = await storage.upload_from_url(
        "CA1",
        f"{os.environ['SOURCE']}/{name}",
        name,
        recorded_at=datetime(2026, 11, 23, tzinfo=UTC),
        if_exists="return",
        allow_private_addresses=True,
        timeout=timeout,
    )
    return result.key

LIMIT = float(os.environ.get("LIMIT", "600"))
"""


# The releases of taskiq-redis that know this taskiq need a redis that arq does not allow. Where it
# is installed, it is tested, too: `nox -s taskiq_redis`.
STREAM_BROKER = """
import os
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, ResponseError
from taskiq import AckableMessage, AsyncBroker

class StreamBroker(AsyncBroker):
    '''Tasks in a Redis stream: acknowledged, else given to another worker when idle.'''

    def __init__(self, url, *, idle_ms):
        super().__init__()
        self._redis = Redis.from_url(url)
        self._idle_ms = idle_ms
        self._name = str(os.getpid())

    async def startup(self):
        await super().startup()
        try:
            await self._redis.xgroup_create("tasks", "workers", id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def shutdown(self):
        await super().shutdown()
        await self._redis.aclose()

    async def kick(self, message):
        await self._redis.xadd("tasks", {b"data": message.message})

    async def listen(self):
        while True:
            try:
                messages = await self._next()
            except ConnectionError:
                continue
            for message_id, fields in messages:
                yield AckableMessage(data=fields[b"data"], ack=self._ack(message_id))

    async def _next(self):
        found = await self._redis.xreadgroup(
            "workers", self._name, {"tasks": ">"}, count=10, block=200
        )
        if found:
            return found[0][1]
        return (await self._redis.xautoclaim("tasks", "workers", self._name, self._idle_ms))[1]

    def _ack(self, message_id):
        async def ack():
            await self._redis.xack("tasks", "workers", message_id)

        return ack
"""


@dataclass(frozen=True)
class Framework:
    """How to run a worker of a framework.

    ``worker`` is its module; ``send`` is a program that sends the task for each of its arguments,
    and the clean-up for ``--abort-stale-uploads``. ``ready`` is logged when a worker has started.
    """

    worker: str
    command: list[str]
    send: str
    ready: str
    finishes_tasks: bool = False
    """Whether it lets tasks end before it stops, however long they take."""
    needs: str | None = None
    """A package that the dependency groups do not have, since it cannot be beside the others."""


_TASKIQ_REDIS = "from taskiq_redis import RedisStreamBroker as StreamBroker"

TASKIQ = Framework(
    worker="""
import os
from datetime import timedelta
from typing import Annotated
from taskiq import SimpleRetryMiddleware, TaskiqDepends
from careflow_storage import BackblazeStorage
from careflow_storage.integrations.taskiq import (
    get_storage, install, schedule_abort_stale_uploads,
)
from stream_broker import StreamBroker
import job

broker = StreamBroker(os.environ["REDIS"], idle_ms=10_000)
broker.add_middlewares(SimpleRetryMiddleware())
install(broker, grace=30)
clean_up = schedule_abort_stale_uploads(broker, older_than=timedelta(milliseconds=1))

@broker.task(timeout=job.LIMIT, retry_on_error=True, max_retries=100)
async def store(
    name: str, storage: Annotated[BackblazeStorage, TaskiqDepends(get_storage)]
) -> str:
    return await job.store(storage, name)
""",
    command=[
        *("-m", "taskiq", "worker", "--workers", "1", "--wait-tasks-timeout", "0.1"),
        *("--shutdown-timeout", "60", "worker:broker"),
    ],
    ready="Listening started",
    send="""
import asyncio, sys
import worker

async def main():
    await worker.broker.startup()
    for name in sys.argv[1:]:
        if name == "--abort-stale-uploads":
            await worker.clean_up.kiq()
        else:
            await worker.store.kiq(name)
    await worker.broker.shutdown()

asyncio.run(main())
""",
)

# It knows the same options by other names.
TASKIQ_REDIS = replace(
    TASKIQ,
    worker=TASKIQ.worker.replace("from stream_broker import StreamBroker", _TASKIQ_REDIS).replace(
        "idle_ms=", "xread_block=200, idle_timeout="
    ),
    needs="taskiq_redis",
)

SAQ = Framework(
    worker="""
import os
from saq import CronJob, Queue
from careflow_storage.integrations.saq import (
    abort_stale_uploads, get_storage, shutdown, startup,
)
import job

queue = Queue.from_url(os.environ["REDIS"])

async def store(ctx, *, name):
    return await job.store(get_storage(ctx), name)

async def close(ctx):
    await shutdown(ctx, grace=30)

settings = {
    "queue": queue,
    "functions": [store, abort_stale_uploads],
    "startup": startup,
    "shutdown": close,
    "timers": {"sweep": int(os.environ.get("SWEEP", "60"))},
    "cancellation_hard_deadline_s": 30.0,
}
""",
    command=["-m", "saq", "worker.settings", "--verbose"],
    ready="Worker starting",
    send="""
import asyncio, sys
import worker, job

async def main():
    await worker.queue.connect()
    for name in sys.argv[1:]:
        if name == "--abort-stale-uploads":
            await worker.queue.enqueue("abort_stale_uploads", older_than_hours=1e-6)
        else:
            await worker.queue.enqueue(
                "store", name=name, timeout=min(15, int(job.LIMIT)), retries=100
            )
    await worker.queue.disconnect()

asyncio.run(main())
""",
)

ARQ = Framework(
    worker="""
import os
from arq import Retry, func
from arq.connections import RedisSettings
from careflow_storage import StorageError
from careflow_storage.integrations.arq import (
    abort_stale_uploads, get_storage, shutdown, startup,
)
import job

redis_settings = RedisSettings.from_dsn(os.environ["REDIS"])

async def store(ctx, name):
    try:
        return await job.store(get_storage(ctx), name, timeout=job.LIMIT)
    except StorageError as error:
        if not error.retryable:
            raise
        raise Retry(defer=0.1) from error

async def close(ctx):
    await shutdown(ctx, grace=30)

class WorkerSettings:
    functions = [func(store, max_tries=100), abort_stale_uploads]
    on_startup = startup
    on_shutdown = close
    redis_settings = redis_settings
    job_timeout = 20 if job.LIMIT > 60 else 60
    poll_delay = 0.1
""",
    command=["-m", "arq", "worker.WorkerSettings"],
    ready="Starting worker",
    send="""
import asyncio, sys
from arq import create_pool
import worker

async def main():
    pool = await create_pool(worker.redis_settings)
    for name in sys.argv[1:]:
        if name == "--abort-stale-uploads":
            await pool.enqueue_job("abort_stale_uploads", older_than_hours=1e-6)
        else:
            await pool.enqueue_job("store", name)
    await pool.aclose()

asyncio.run(main())
""",
)

CELERY = Framework(
    worker="""
import os
from datetime import timedelta
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from careflow_storage import StorageError
from careflow_storage.integrations.celery import install, schedule_abort_stale_uploads
import job

app = Celery("worker", broker=os.environ["REDIS"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    worker_cancel_long_running_tasks_on_connection_loss=True,
    broker_transport_options={"visibility_timeout": 1},
    # Celery counts the hard limit from the soft one on, if there is one.
    task_soft_time_limit=None if "HARD_LIMIT" in os.environ else job.LIMIT,
    task_time_limit=float(os.environ.get("HARD_LIMIT", "3600")),
)
portal = install(app, grace=30)
clean_up = schedule_abort_stale_uploads(app, portal, older_than=timedelta(milliseconds=1))

@app.task(
    autoretry_for=(SoftTimeLimitExceeded, StorageError), max_retries=None, default_retry_delay=0.1,
    acks_on_failure_or_timeout=False,
)
def store(name):
    return portal.call(job.store, name)
""",
    command=[
        *("-m", "celery", "-A", "worker", "worker", "--concurrency", "2", "--loglevel", "INFO"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ],
    ready=" ready.",
    send="""
import sys
import worker

for name in sys.argv[1:]:
    if name == "--abort-stale-uploads":
        worker.clean_up.delay()
    else:
        worker.store.delay(name)
""",
    finishes_tasks=True,
)

DRAMATIQ = Framework(
    worker="""
import os
from datetime import timedelta
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from careflow_storage.integrations.dramatiq import abort_stale_uploads_actor, install
import job

broker = RedisBroker(
    url=os.environ["REDIS"], heartbeat_timeout=5000, maintenance_chance=1_000_000
)
dramatiq.set_broker(broker)
portal = install(broker, grace=30)
clean_up = abort_stale_uploads_actor(broker, portal, older_than=timedelta(milliseconds=1))

@dramatiq.actor(
    max_retries=None, min_backoff=100, max_backoff=1000, notify_shutdown=True,
    time_limit=int(job.LIMIT * 1000),
)
def store(name):
    portal.call(job.store, name)
""",
    command=["-m", "dramatiq", "worker:broker", "--processes", "1", "--threads", "2"],
    ready="is ready for action",
    send="""
import sys
import worker

for name in sys.argv[1:]:
    if name == "--abort-stale-uploads":
        worker.clean_up.send()
    else:
        worker.store.send(name)
""",
)

FRAMEWORKS = {
    "taskiq": TASKIQ,
    "taskiq-redis": TASKIQ_REDIS,
    "saq": SAQ,
    "arq": ARQ,
    "celery": CELERY,
    "dramatiq": DRAMATIQ,
}
