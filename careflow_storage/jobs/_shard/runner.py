"""Runs one shard: does its work, then records the result before it is returned."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from contextlib import ExitStack

from careflow_storage.jobs._records.records import JobRecords, new_shard_id
from careflow_storage.jobs._shard.context import ShardContext, ShardSpan
from careflow_storage.jobs._shard.outcome import ShardOutcome
from careflow_storage.jobs._shard.storages import Storages
from careflow_storage.jobs.results import ShardResult, ShardTask


async def run_shard(
    task: ShardTask, storages: Storages, outcome: ShardOutcome | None = None
) -> ShardResult:
    """Run a shard in this event loop; return when its result is recorded.

    Args:
        outcome: Filled in while the shard runs.

    Raises:
        StorageError: Something that concerns all objects. Nothing is recorded.
    """
    started = time.monotonic()
    opened = await storages.of_job(task.job, task.rate)
    shard_id = new_shard_id()
    outcome = ShardOutcome() if outcome is None else outcome
    context = ShardContext(
        task, shard_id, opened, storages.slots, storages.differing_etags, outcome
    )
    with ExitStack() as scopes:
        counts = {
            role: scopes.enter_context(storage.count_requests()) for role, storage in opened.items()
        }
        span = await _work(context)
        records = JobRecords(list(opened.values())[-1], task.job.job_id)
        error_file = None
        if outcome.errors and not task.dry_run:
            error_file = await records.save_errors(shard_id, outcome.errors)
        result = ShardResult(
            job_id=task.job.job_id,
            shard_id=shard_id,
            retry_of=task.retry_of,
            finished=span.finished,
            rest=span.rest,
            objects=outcome.objects,
            bytes=outcome.bytes,
            skipped=outcome.skipped,
            details=outcome.details,
            oldest=outcome.oldest,
            newest=outcome.newest,
            notes=outcome.notes,
            error_kinds=dict(Counter(error.kind for error in outcome.errors)),
            errors=outcome.errors,
            error_file=error_file,
            value_file=outcome.value_file,
            requests={role: dict(counted) for role, counted in counts.items()},
            seconds=time.monotonic() - started,
            worker=f"{socket.gethostname()}:{os.getpid()}",
        )
        if task.dry_run:
            return result
        await records.save_shard(result)
        requests = {role: dict(counted) for role, counted in counts.items()}
    return result.model_copy(update={"requests": requests})


async def _work(context: ShardContext) -> ShardSpan:
    kind = context.task.job.kind
    if kind == "copy":
        from careflow_storage.jobs._shard.copy import copy_shard

        return await copy_shard(context)
    if kind == "verify":
        from careflow_storage.jobs._shard.verify import verify_shard

        return await verify_shard(context)
    if kind == "purge":
        from careflow_storage.jobs._shard.purge import purge_shard

        return await purge_shard(context)
    if kind == "retain":
        from careflow_storage.jobs._shard.retain import retain_shard

        return await retain_shard(context)
    from careflow_storage.jobs._shard.map import map_shard

    return await map_shard(context)
