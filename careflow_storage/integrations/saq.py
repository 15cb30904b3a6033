"""SAQ: one storage per worker, opened and closed by its hooks. Extra: ``saq``.

::

    async def store(ctx: Context, *, call_id: str, url: str) -> str:
        storage = get_storage(ctx)
        result = await storage.upload_from_url(...)
        return result.key

    settings = {
        "queue": Queue.from_url("redis://localhost"),
        "functions": [store],
        "startup": startup,
        "shutdown": shutdown,
        "cron_jobs": [CronJob(abort_stale_uploads, cron="17 3 * * *", timeout=3600)],
    }
"""

from __future__ import annotations

from careflow_storage.errors import MissingExtraError
from careflow_storage.integrations.worker_context import (
    abort_stale_uploads,
    get_storage,
    shutdown,
    startup,
)

try:
    import saq  # noqa: F401 - so that a missing extra is named at once
except ImportError as _missing:
    raise MissingExtraError("saq") from _missing

__all__ = ["abort_stale_uploads", "get_storage", "shutdown", "startup"]
