"""The processes of the example: the web app, the workers and Redis."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Processes:
    """Starts processes, and stops those that are alive at the end."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self._all: list[subprocess.Popen[bytes]] = []

    def python(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Run ``python -m`` with these arguments."""
        return self._start([sys.executable, "-m", *arguments])

    def redis(self, folder: str, port: int) -> str:
        """Run a Redis that keeps its data in a folder; return its URL."""
        program = shutil.which("redis-server")
        if program is None:
            raise SystemExit("redis-server is missing: apt-get install redis-server")
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        self._start([*command, "--appendonly", "yes", "--save", "", "--logfile", "redis.log"])
        return f"redis://127.0.0.1:{port}"

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, env=self.environment, cwd=ROOT)  # noqa: S603
        self._all.append(process)
        return process

    def stop(self) -> None:
        """Stop all that are alive, the newest first."""
        for process in reversed(self._all):
            process.terminate()
            process.wait(30)


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


async def until_reachable(port: int) -> None:
    """Wait until a server listens."""
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                return
