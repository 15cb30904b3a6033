"""Dramatiq: the storage in synchronous actors, one per worker process. Extra: ``dramatiq``.

::

    portal = install(broker)

    @dramatiq.actor
    def store(call_id: str, url: str) -> None:
        portal.call(fetch, call_id, url)

    async def fetch(storage: BackblazeStorage, call_id: str, url: str) -> UploadResult: ...
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
    from dramatiq import Actor, Broker, Middleware, Worker, actor
except ImportError as _missing:
    raise MissingExtraError("dramatiq") from _missing

__all__ = ["StoragePortal", "abort_stale_uploads_actor", "install"]


def install(
    broker: Broker,
    settings: StorageSettings | None = None,
    *,
    grace: float = DEFAULT_GRACE,
    **options: Unpack[StorageOptions],
) -> StoragePortal:
    """Return a portal to one storage per process, which is closed when a worker stops.

    Each process opens its own at the first call, so also after a fork.

    Args:
        broker: Call this once, where you make it.
        settings: Default: read from ``BACKBLAZE_*`` at the first call.
        grace: The most seconds for the clean-up of a call that is interrupted, as by a time limit
            or a shutdown, and for that of all calls when the worker stops.
        options: ``hooks`` and ``rate_limit``, as for `BackblazeStorage`.

    Raises:
        InvalidInputError: It is no broker, or has a portal already, or ``grace`` is not a number
            of seconds, 0 or more.
    """
    if not isinstance(broker, Broker):
        raise InvalidInputError(f"broker must be a Broker, not {type(broker).__name__}.")
    if any(isinstance(each, _PortalMiddleware) for each in broker.middleware):
        raise InvalidInputError("The broker has a portal already.")
    portal = StoragePortal(settings, grace=grace, **options)
    broker.add_middleware(_PortalMiddleware(portal))
    return portal


def abort_stale_uploads_actor(
    broker: Broker,
    portal: StoragePortal,
    *,
    older_than: timedelta = timedelta(days=1),
    prefix: str = "",
    **options: Any,
) -> Actor[[], int]:
    """Return an actor that aborts the uploads that killed processes left in the bucket.

    Dramatiq has no schedule of its own: ``send()`` it once a day from cron, APScheduler or
    periodiq. The actor returns how many uploads it aborted, see
    `BackblazeStorage.abort_stale_uploads`.

    Args:
        broker: The broker.
        portal: What `install` has returned.
        older_than: Choose more time than your slowest upload needs for one part.
        prefix: Only uploads of keys that begin so.
        options: Options of the actor, such as ``queue_name``.

    Raises:
        InvalidInputError: ``older_than`` is not a positive timedelta.
    """
    job = portal.stale_uploads_job(older_than, prefix)
    return actor(actor_name="abort_stale_uploads", broker=broker, **options)(job)


class _PortalMiddleware(Middleware):
    """Closes the portal when the threads of a worker have ended."""

    def __init__(self, portal: StoragePortal) -> None:
        self._portal = portal

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        self._portal.close()
