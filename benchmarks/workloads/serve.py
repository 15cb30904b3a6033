"""A file through a web app by ranges, as players that seek request it.

The app runs on uvicorn in the measured process. The players are a process of their own, which is
waited for after the measurement, so that its CPU does not count.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.clients.protocol import Serves
from benchmarks.model import MIB, Job
from benchmarks.workloads.base import TRANSFER_PROBE_S, Sections, Workload

_RANGE = MIB
_PLAYERS = 8


class Serve(Workload):
    """Ranges of 1 MiB, until the file was read once, for eight players at a time."""

    def __init__(self, job: Job, client: Serves) -> None:
        super().__init__(job)
        self._client = client

    async def warm(self) -> None:
        """Nothing: the server must run for both, so `run` begins with the smaller file."""

    async def run(self) -> Sections:
        async with self._site() as port, _players() as players:
            size = os.stat(self.job.paths["warm"]).st_size  # noqa: PTH116
            await self._play(players, port, "warm", size, compare=True)
            size = self.job.size
            async with self.watched(TRANSFER_PROBE_S) as section:
                section.size = await self._play(players, port, "main", size, compare=False)
                section.ops = -(-size // _RANGE)
        return {f"1 MiB ranges x{_PLAYERS}": section.sample}

    async def _play(
        self, players: Process, port: int, name: str, size: int, *, compare: bool
    ) -> int:
        """Let the players read a file; return how many bytes they received."""
        command = {"do": "ranges", "port": port, "path": f"/{name}", "size": size}
        command |= {"step": _RANGE, "workers": _PLAYERS, "rounds": 1}
        if compare:
            command["source"] = self.job.paths[name]
        assert players.stdin is not None
        assert players.stdout is not None
        players.stdin.write(json.dumps(command).encode() + b"\n")
        received = int(json.loads(await players.stdout.readline() or b"{}").get("received", -1))
        if received != size:
            raise RuntimeError(f"the players received {received} bytes of {size}")
        return received

    @asynccontextmanager
    async def _site(self) -> AsyncIterator[int]:
        """Run the app; yield its port."""
        # Other workloads do without them.
        import uvicorn
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import Response
        from starlette.routing import Route

        async def respond(request: Request) -> Response:
            name = request.path_params["name"]
            return await self._client.respond(self.job.keys[name], self.job.paths[name], request)

        app: Any = Starlette(routes=[Route("/{name}", respond)])
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield listener.getsockname()[1]
            finally:
                server.should_exit = True
                await serving


@asynccontextmanager
async def _players() -> AsyncIterator[Process]:
    command = (sys.executable, "-m", "benchmarks.web.load")
    players = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        yield players
    finally:
        assert players.stdin is not None
        players.stdin.close()
        await players.wait()
