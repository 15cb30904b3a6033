"""Celery: the storage in synchronous tasks, one per worker process. Extra: ``celery``.

::

    portal = install(app)

    @app.task(acks_late=True)
    def store(call_id: str, url: str) -> str:
        return portal.call(fetch, call_id, url).key

    async def fetch(storage: BackblazeStorage, call_id: str, url: str) -> UploadResult: ...

For the pools ``prefork``, ``threads`` and ``solo``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Unpack

from careflow_storage._in_flight import DEFAULT_GRACE
from careflow_storage.errors import InvalidInputError, MissingExtraError
from careflow_storage.integrations.portal import StoragePortal
from careflow_storage.integrations.worker_options import StorageOptions
from careflow_storage.settings import StorageSettings

try:
    from celery import Celery, signals
except ImportError as _missing:
    raise MissingExtraError("celery") from _missing

__all__ = ["StoragePortal", "install", "schedule_abort_stale_uploads"]

_TASK = "careflow_storage.abort_stale_uploads"


def install(
    app: Celery,
    settings: StorageSettings | None = None,
    *,
    grace: float = DEFAULT_GRACE,
    **options: Unpack[StorageOptions],
) -> StoragePortal:
    """Return a portal to one storage per process, which is closed when a worker stops.

    Each process opens its own at the first call, so also after a fork.

    Args:
        app: The app whose tasks use the portal. Tasks without one can import the portal.
        settings: Default: read from ``BACKBLAZE_*`` at the first call.
        grace: The most seconds for the clean-up of a call that is interrupted, as by a soft time
            limit, and for that of all calls when the worker stops.
        options: ``hooks`` and ``rate_limit``, as for `BackblazeStorage`.

    Raises:
        InvalidInputError: ``app`` is no Celery app, or ``grace`` is not a number of seconds, 0 or
            more.
    """
    _check_app(app)
    portal = StoragePortal(settings, grace=grace, **options)

    def close(**_: Any) -> None:
        portal.close()

    # In a process of the pool, and in the process that has the pool (of threads, or solo).
    signals.worker_process_shutdown.connect(close, weak=False)
    signals.worker_shutdown.connect(close, weak=False)
    return portal


def schedule_abort_stale_uploads(
    app: Celery,
    portal: StoragePortal,
    *,
    schedule: Any = timedelta(days=1),
    older_than: timedelta = timedelta(days=1),
    prefix: str = "",
) -> Any:
    """Register a task that aborts the uploads that killed processes left in the bucket.

    ``celery beat`` sends it. The task returns how many uploads it aborted, see
    `BackblazeStorage.abort_stale_uploads`.

    Args:
        app: The Celery app.
        portal: What `install` has returned.
        schedule: As for ``app.add_periodic_task``: a timedelta, seconds, or a ``crontab``.
        older_than: Choose more time than your slowest upload needs for one part.
        prefix: Only uploads of keys that begin so.

    Returns:
        The task.

    Raises:
        InvalidInputError: ``older_than`` is not a positive timedelta, or ``app`` no Celery app.
    """
    _check_app(app)
    task = app.task(portal.stale_uploads_job(older_than, prefix), name=_TASK, shared=False)
    app.add_periodic_task(schedule, task.s(), name=_TASK)
    return task


def _check_app(app: object) -> None:
    if not isinstance(app, Celery):
        raise InvalidInputError(f"app must be a Celery app, not {type(app).__name__}.")
