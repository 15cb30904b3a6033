"""An ASGI application on a real server, in the event loop of the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn


class Uvicorn(uvicorn.Server):
    """uvicorn, which says when it accepts connections, and stops when it is told to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepts = asyncio.Event()
        self._stopping = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.accepts.set()

    async def main_loop(self) -> None:
        """Wait for `stop`; uvicorn itself looks ten times a second."""
        await self.on_tick(0)
        await self._stopping.wait()

    def stop(self) -> None:
        """Let `serve` end."""
        self.should_exit = True
        self._stopping.set()


@asynccontextmanager
async def served(app: Any, **options: Any) -> AsyncIterator[str]:
    """Run the application, with these options of uvicorn; yield its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        given = {"log_config": None, "lifespan": "off", "ws": "none", **options}
        config = uvicorn.Config(app, **given)
        server = Uvicorn(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        await server.accepts.wait()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.stop()
            await running
