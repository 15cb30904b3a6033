"""One storage for the life of a web app, and the dependency that returns it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from careflow_storage._in_flight import DEFAULT_GRACE
from careflow_storage.errors import InvalidInputError, MissingExtraError, StorageClosedError
from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage

try:
    from starlette.requests import HTTPConnection
except ImportError as error:
    raise MissingExtraError("fastapi") from error

_NAME = "storage"

Lifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]
"""A lifespan as FastAPI and Starlette take it; it may yield the state of the requests."""


def storage_lifespan(
    settings: StorageSettings | None = None,
    *,
    lifespan: Lifespan | None = None,
    grace: float = DEFAULT_GRACE,
) -> Callable[[Any], AbstractAsyncContextManager[dict[str, Any]]]:
    """Return a lifespan that opens one storage at startup and closes it at shutdown.

    ::

        app = FastAPI(lifespan=storage_lifespan())

    The storage is ``request.state.storage``, also in WebSockets and mounted apps; `get_storage`
    returns it. Opening it sends no request. At shutdown, calls in flight are cancelled and
    cleaned up, see `BackblazeStorage.close`.

    Args:
        settings: Default: read from ``BACKBLAZE_*``, at startup.
        lifespan: Another lifespan of the app. It starts after the storage is open and ends
            before the storage closes. The state that it yields is kept.
        grace: The most seconds for the clean-up at shutdown.

    Raises:
        NotConfiguredError: At startup, which fails: a setting is missing.
        InvalidInputError: At startup: a setting is malformed, or ``lifespan`` yields a state with
            the name ``storage``.
    """

    @asynccontextmanager
    async def opened(app: Any) -> AsyncIterator[dict[str, Any]]:
        storage = BackblazeStorage(settings)
        try:
            await storage.__aenter__()
            async with nullcontext() if lifespan is None else lifespan(app) as other:
                state = dict(other or {})
                if _NAME in state:
                    raise InvalidInputError(
                        f"The lifespan yields a state with the name {_NAME!r}, which is taken."
                    )
                yield {**state, _NAME: storage}
        finally:
            await storage.close(grace)

    return opened


def get_storage(connection: HTTPConnection) -> BackblazeStorage:
    """Return the storage that `storage_lifespan` has opened: a dependency for FastAPI.

    ::

        Storage = Annotated[BackblazeStorage, Depends(get_storage)]

    For routes, WebSockets and mounted apps. In Starlette call it with the request or WebSocket.
    It also finds a storage that a lifespan of yours yields as ``{"storage": storage}``.

    Raises:
        StorageClosedError: The app has no such lifespan, or the server did not run it.
    """
    storage = getattr(connection.state, _NAME, None)
    if isinstance(storage, BackblazeStorage):
        return storage
    raise StorageClosedError(
        "The app has no open storage.",
        method="get_storage",
        hint="Pass lifespan=storage_lifespan() to the outermost app. Test clients need a `with` "
        "block to run it.",
    )
