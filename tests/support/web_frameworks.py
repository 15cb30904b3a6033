"""The example apps of ``examples/web_frameworks``, each on the web servers that it runs on."""

from __future__ import annotations

import functools
import importlib.util
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from aiohttp import web

from careflow_storage import BackblazeStorage
from tests.support.web import ServerName, Site, site

_EXAMPLES = Path(__file__).parents[2] / "examples" / "web_frameworks"


@dataclass(frozen=True)
class Framework:
    """An example app and the server that runs it.

    Attributes:
        storage_of: Returns the storage that the running app has opened.
    """

    name: str
    server: str
    load: Callable[[], ModuleType]
    run: Callable[[ModuleType], AbstractAsyncContextManager[Site]]
    storage_of: Callable[[ModuleType], BackblazeStorage]

    def __str__(self) -> str:
        return f"{self.name} on {self.server}"


def load(name: str) -> ModuleType:
    """Import an example anew, with an app that has not run before."""
    spec = importlib.util.spec_from_file_location(name, _EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Litestar and Django look names up in it.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_load_once = functools.cache(load)


class _AiohttpSite(Site):
    """Counts the requests that have ended with a middleware, as `Site` does with ASGI."""

    @web.middleware
    async def watch(self, request: web.Request, handler: Any) -> web.StreamResponse:
        failure: BaseException | None = None
        try:
            response: web.StreamResponse = await handler(request)
            return response
        except BaseException as error:
            failure = error
            raise
        finally:
            self._ended.put_nowait(failure)


@asynccontextmanager
async def _run_aiohttp(module: ModuleType) -> AsyncIterator[Site]:
    app = module.make_app()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = _AiohttpSite(None, listening.getsockname()[1])
        app.middlewares.insert(0, running.watch)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await runner.setup()
        await web.SockSite(runner, listening).start()
        try:
            yield running
        finally:
            await running.hang_up()
            await runner.cleanup()


def _asgi(name: str, server: ServerName) -> Framework:
    attribute = "application" if name == "Django" else "app"
    storages: dict[str, Callable[[ModuleType], BackblazeStorage]] = {
        "Litestar": lambda module: module.app.state.storage,
        "Quart": lambda module: module.app.extensions["storage"],
        "Django": lambda module: module.application.storage,
    }
    return Framework(
        name,
        server,
        # A process has one Django.
        functools.partial(_load_once if name == "Django" else load, f"{name.lower()}_app"),
        lambda module: site(getattr(module, attribute), server),
        storages[name],
    )


def frameworks() -> list[Framework]:
    """All examples, each on uvicorn and hypercorn, or on its own server."""
    servers: tuple[ServerName, ...] = ("uvicorn", "hypercorn")
    names = ("Litestar", "Quart", "Django")
    apps: dict[ModuleType, BackblazeStorage] = {}

    def load_aiohttp() -> ModuleType:
        module = load("aiohttp_app")
        opened = module.open_storage

        async def open_storage(app: web.Application) -> AsyncIterator[None]:
            async for _ in opened(app):
                apps[module] = app[module.STORAGE]
                yield

        vars(module)["open_storage"] = open_storage
        return module

    aiohttp = Framework("aiohttp", "aiohttp", load_aiohttp, _run_aiohttp, apps.__getitem__)
    return [*(_asgi(name, server) for name in names for server in servers), aiohttp]
