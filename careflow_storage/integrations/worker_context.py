"""One storage for the life of a worker, in the context that arq and SAQ pass to hooks and jobs."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from datetime import timedelta
from typing import Any, Unpack, cast

from careflow_storage._in_flight import DEFAULT_GRACE, checked_grace
from careflow_storage.errors import InvalidInputError, StorageClosedError
from careflow_storage.integrations.worker_options import StorageOptions
from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage

_NAME = "storage"


async def startup(
    ctx: Mapping[Any, Any],
    settings: StorageSettings | None = None,
    **options: Unpack[StorageOptions],
) -> None:
    """Open one storage for the jobs of this worker: the hook for its startup.

    Sends no request. To do more at startup, or to pass settings, await it in a hook of your own.

    Args:
        ctx: The worker's context. Its ``storage`` is set.
        settings: Default: read from ``BACKBLAZE_*``.
        options: ``hooks`` and ``rate_limit``, as for `BackblazeStorage`.

    Raises:
        NotConfiguredError: A setting is missing. The worker does not start.
        InvalidInputError: A setting is malformed, or the context has a ``storage`` already.
    """
    _check_context(ctx)
    if _NAME in ctx:
        raise InvalidInputError(f"The worker's context has a {_NAME!r} already.")
    storage = BackblazeStorage(settings, **options)
    await storage.__aenter__()
    # SAQ types its context as a TypedDict, which takes further keys.
    cast("MutableMapping[Any, Any]", ctx)[_NAME] = storage


async def shutdown(ctx: Mapping[Any, Any], grace: float = DEFAULT_GRACE) -> None:
    """Close the storage of this worker: the hook for its shutdown.

    Calls in flight are cancelled and cleaned up, for at most ``grace`` seconds, see
    `BackblazeStorage.close`. Does nothing if the startup has failed.

    Raises:
        InvalidInputError: ``grace`` is not a number of seconds, 0 or more.
    """
    checked_grace(grace)
    _check_context(ctx)
    storage = ctx.get(_NAME)
    if isinstance(storage, BackblazeStorage):
        await storage.close(grace)


def get_storage(ctx: Mapping[Any, Any]) -> BackblazeStorage:
    """Return the storage that `startup` has opened.

    Raises:
        StorageClosedError: The worker does not run `startup`.
    """
    _check_context(ctx)
    storage = ctx.get(_NAME)
    if isinstance(storage, BackblazeStorage):
        return storage
    raise StorageClosedError(
        "The worker has no open storage.",
        method="get_storage",
        hint="Make startup and shutdown of this module the hooks of the worker.",
    )


async def abort_stale_uploads(
    ctx: Mapping[Any, Any], *, older_than_hours: float = 24.0, prefix: str = ""
) -> int:
    """Abort the uploads that killed processes left in the bucket; return how many.

    A job for the worker's schedule. See `BackblazeStorage.abort_stale_uploads`.
    """
    age = checked_hours(older_than_hours)
    return len(await get_storage(ctx).abort_stale_uploads(age, prefix))


def checked_hours(hours: object) -> timedelta:
    """Return the hours as a `timedelta`; raise `InvalidInputError` unless they are positive."""
    if isinstance(hours, int | float) and not isinstance(hours, bool) and 0 < hours < 1e6:
        return timedelta(hours=hours)
    raise InvalidInputError(f"older_than_hours must be a positive number, not {hours!r}.")


def _check_context(ctx: object) -> None:
    if not isinstance(ctx, Mapping):
        raise InvalidInputError(
            f"ctx must be the context of the worker, a dict, not {type(ctx).__name__}."
        )
