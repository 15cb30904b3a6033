"""arq: one storage per worker, opened and closed by its hooks. Extra: ``arq``.

::

    async def store(ctx: dict[Any, Any], call_id: str, url: str) -> str:
        storage = get_storage(ctx)
        result = await storage.upload_from_url(...)
        return result.key

    class WorkerSettings:
        functions = [store]
        on_startup = startup
        on_shutdown = shutdown
        cron_jobs = [cron(abort_stale_uploads, hour=3, minute=17)]
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
    import arq  # noqa: F401 - so that a missing extra is named at once
except ImportError as _missing:
    raise MissingExtraError("arq") from _missing

__all__ = ["abort_stale_uploads", "get_storage", "shutdown", "startup"]
