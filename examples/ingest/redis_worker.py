"""A worker with Redis: it stores what the webhooks have announced. Start any number."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any, ClassVar

from arq import Retry, cron, run_worker
from arq.connections import RedisSettings

from careflow_storage import StorageError
from careflow_storage.integrations.arq import abort_stale_uploads, get_storage, shutdown, startup

TIMEOUT = 10


async def store(
    ctx: dict[Any, Any], call_id: str, url: str, filename: str, recorded_at: datetime
) -> str:
    """Store one recording; a repetition finds it by its key, which has the recording's time."""
    try:
        result = await get_storage(ctx).upload_from_url(
            call_id,
            url,
            filename,
            recorded_at=recorded_at,
            if_exists="return",
            # Below job_timeout, after which arq does not run the job again.
            timeout=TIMEOUT,
            # Here, not in the job: Redis must not know them.
            auth=(os.environ["TWILIO_API_KEY"], os.environ["TWILIO_API_SECRET"]),
            # The provider of this example is this machine. Leave it out for Twilio.
            allow_private_addresses=True,
        )
    except StorageError as error:
        # 404: announced, and not ready yet.
        if error.retryable or error.status == 404:
            raise Retry(defer=0.2 * ctx["job_try"]) from error
        raise
    return result.key


class WorkerSettings:
    """What ``arq examples.ingest.redis_worker.WorkerSettings`` runs, and logs."""

    functions: ClassVar = [store]
    cron_jobs: ClassVar = [cron(abort_stale_uploads, hour=3, minute=17)]
    on_startup = startup
    on_shutdown = shutdown
    redis_settings = RedisSettings.from_dsn(os.environ["REDIS"])
    max_jobs = 8
    max_tries = 20
    # The jobs of a killed worker are run again 10 seconds after this.
    job_timeout = TIMEOUT + 5
    # At SIGTERM, jobs may end; then they are cancelled and run again.
    job_completion_wait = 5
    poll_delay = 0.1


if __name__ == "__main__":
    run_worker(WorkerSettings)  # type: ignore[arg-type]  # its annotations are not those of arq
