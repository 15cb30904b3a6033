"""A storage whose every request goes through a fault proxy, and a look at what it holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import moto.s3.models

from careflow_storage.hooks import Hooks
from careflow_storage.rate_limit import RateLimit
from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage
from careflow_storage.testing.proxy.proxy import FaultProxy

PART = 300 * 1024  # more than one slice of a request body
"""Far below S3's smallest part, so that a multipart upload takes milliseconds."""


@asynccontextmanager
async def storage_behind(
    proxy: FaultProxy, settings: StorageSettings, **changes: Any
) -> AsyncIterator[BackblazeStorage]:
    """Open a storage that talks to ``proxy``, with settings changed; two parts move at once.

    ``limit`` is its `RateLimit`, ``hooks`` are its `Hooks`.
    """
    fields: dict[str, Any] = {
        "endpoint": proxy.url,
        "multipart_threshold": PART,
        "transfer_concurrency": 2,
        "idle_timeout": 5.0,
        **changes,
    }
    limit: RateLimit | None = fields.pop("limit", None)
    hooks: Sequence[Hooks] = fields.pop("hooks", ())
    memory_budget = fields.pop("memory_budget", 4 * PART)
    copy = settings.model_copy(update=fields)
    # Past validation, which knows what real servers allow.
    copy.__dict__.update(part_size=PART, memory_budget=memory_budget)
    with mock.patch.object(moto.s3.models, "S3_UPLOAD_PART_MIN_SIZE", 1):
        async with BackblazeStorage(copy, rate_limit=limit, hooks=hooks) as storage:
            yield storage


async def cleared(proxy: FaultProxy) -> None:
    """Remove the rules and the log of a proxy, once it has read what canceled requests had sent.

    It runs on this loop: after these turns it has read all that is in its sockets.
    """
    for _ in range(50):
        await asyncio.sleep(0)
    proxy.clear()


async def unfinished_uploads(storage: BackblazeStorage) -> list[str]:
    """The IDs of all multipart uploads in the bucket."""
    client = await storage.client()
    response = await client.list_multipart_uploads(Bucket=storage.settings.bucket_name)
    return [upload["UploadId"] for upload in response.get("Uploads", [])]


async def versions(storage: BackblazeStorage, key: str) -> tuple[int, int]:
    """How many versions and how many delete markers a key has."""
    client = await storage.client()
    response = await client.list_object_versions(Bucket=storage.settings.bucket_name, Prefix=key)
    return len(response.get("Versions", [])), len(response.get("DeleteMarkers", []))


def held(storage: BackblazeStorage) -> dict[str, int]:
    """The slots and the bytes that running transfers hold; the one place that looks inside."""
    context = storage._runtime.context()
    limiter, budget = context.session.limiter, context.budget
    return {
        "slots": storage.settings.max_connections - limiter.free,
        "bytes": budget.total - budget._free,
        "waiting": len(budget._waiting),
    }


NOTHING_HELD = {"slots": 0, "bytes": 0, "waiting": 0}


def tasks_of_the_library(*, connecting: bool = False) -> set[asyncio.Task[Any]]:
    """All tasks but this one and those that serve the proxy's connections.

    ``connecting``: with those of connections that were given up. They end by themselves, since a
    socket is left to its transport, and closing the storage waits for them.
    """
    return {
        task
        for task in asyncio.all_tasks()
        if task is not asyncio.current_task()
        and not _is_of_the_tests(task)
        and (connecting or not _file_of(task).endswith("connecting.py"))
    }


def _file_of(task: asyncio.Task[Any]) -> str:
    code = getattr(task.get_coro(), "cr_code", None)
    return str(code.co_filename) if code else ""


def _is_of_the_tests(task: asyncio.Task[Any]) -> bool:
    path = _file_of(task)
    if "/tests/" in path or "/careflow_storage/testing/" in path:
        return True
    # A server of asyncio that takes a connection in: the library runs none.
    return "_accept_connection" in getattr(task.get_coro(), "__qualname__", "")
