"""The app of ``benchmarks.players``, in a process of its own, on uvicorn.

Reads its endpoint and options from stdin, writes its port to stdout, and ends with its stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from benchmarks.measure import LoopProbe, Usage, peak_rss_mib, reset_peak_rss, rss_mib
from benchmarks.model import Endpoint
from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.integrations.fastapi import file_response, install_error_handlers

_PROBE_S = 0.005


class App:
    """Plays, lists and stores recordings; measures itself between two requests for numbers."""

    def __init__(self, storage: BackblazeStorage) -> None:
        self._storage = storage
        self._descriptors = 0
        self._before = Usage.now()
        self._probe = LoopProbe(_PROBE_S)
        self._watching: asyncio.Task[None] | None = None

    async def play(self, request: Request) -> Response:
        return await file_response(self._storage, request.path_params["key"], request)

    async def listing(self, request: Request) -> Response:
        files = await self._storage.list_files("recordings/", 10)
        return JSONResponse([file.key for file in files])

    async def store(self, request: Request) -> Response:
        result = await self._storage.upload_recording(
            "CA1", request.stream(), request.path_params["name"]
        )
        return JSONResponse({"key": result.key}, 201)

    async def store_naively(self, request: Request) -> Response:
        """Read the body whole first, as ``await request.body()`` does."""
        body = await request.body()
        result = await self._storage.upload_recording("CA1", body, request.path_params["name"])
        return JSONResponse({"key": result.key}, 201)

    async def begin(self, request: Request) -> Response:
        reset_peak_rss()
        self._before, self._descriptors = Usage.now(), 0
        self._probe = LoopProbe(_PROBE_S)
        await self._probe.start()
        self._watching = asyncio.create_task(self._watch())
        return JSONResponse({"rss_mib": rss_mib()})

    async def end(self, request: Request) -> Response:
        await self._probe.stop()
        if self._watching is not None:
            self._watching.cancel()
        now = Usage.now()
        return JSONResponse(
            {
                "cpu_s": now.user_s + now.system_s - self._before.user_s - self._before.system_s,
                "peak_rss_mib": peak_rss_mib(),
                "rss_mib": rss_mib(),
                "descriptors": self._descriptors,
                "lag_p50_ms": self._probe.quantile_ms(0.5),
                "lag_p99_ms": self._probe.quantile_ms(0.99),
                "lag_max_ms": self._probe.quantile_ms(1.0),
                "requests": self._storage.request_counts(),
            }
        )

    async def _watch(self) -> None:
        while True:
            self._descriptors = max(self._descriptors, len(os.listdir("/proc/self/fd")))  # noqa: PTH208
            await asyncio.sleep(0.2)


async def serve(endpoint: Endpoint, notsent_lowat: int) -> None:
    settings: dict[str, Any] = {
        "key_id": endpoint.key_id,
        "application_key": endpoint.secret,
        "bucket_name": endpoint.bucket,
        "endpoint": endpoint.url,
        "region": endpoint.region,
    }
    async with BackblazeStorage(StorageSettings(**settings, _env_file=None)) as storage:
        app = App(storage)
        routes = [
            Route("/play/{key:path}", app.play, methods=["GET", "HEAD"]),
            Route("/list", app.listing),
            Route("/streamed/{name}", app.store, methods=["PUT"]),
            Route("/naive/{name}", app.store_naively, methods=["PUT"]),
            Route("/begin", app.begin),
            Route("/end", app.end),
        ]
        site = Starlette(routes=routes)
        install_error_handlers(site)
        config = uvicorn.Config(site, log_level="warning", access_log=False)
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
            if notsent_lowat:
                option = socket.TCP_NOTSENT_LOWAT
                listener.setsockopt(socket.IPPROTO_TCP, option, notsent_lowat)
            print(listener.getsockname()[1], flush=True)
            loop = asyncio.get_running_loop()

            def wait_for_end() -> None:
                sys.stdin.read()
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(setattr, server, "should_exit", True)

            threading.Thread(target=wait_for_end, daemon=True).start()
            await server.serve(sockets=[listener])


def main() -> None:
    given = json.loads(sys.stdin.readline())
    asyncio.run(serve(Endpoint(**given["endpoint"]), given["notsent_lowat"]))


if __name__ == "__main__":
    main()
