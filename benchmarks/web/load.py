"""Players and senders, in a process of their own: plain sockets, so that they cost little.

Reads one JSON command per line from stdin, and writes one JSON result per line to stdout.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks.stats import percentile

_NOISE = memoryview(random.Random(2).randbytes(1024 * 1024))
_HEAD_END = b"\r\n\r\n"
# A player's own buffer: a large one would hide for seconds that it reads slowly.
_RECEIVE_BUFFER = 64 * 1024


class Connection:
    """A connection of HTTP/1.1, kept alive.

    Attributes:
        kept: The first bytes of the last body, or all of them where `get` keeps them.
    """

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self._port = port
        self._buffer = receive_buffer
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._view = memoryview(bytearray(256 * 1024))
        self.kept = bytearray()

    async def __aenter__(self) -> Connection:
        opened = socket.socket()
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._buffer is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        await self._loop.sock_connect(opened, ("127.0.0.1", self._port))
        self._socket = opened
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    async def request(
        self, method: str, path: str, headers: str = "", size: int = 0
    ) -> tuple[int, int, int]:
        """Send a request with ``size`` bytes; return status, length, and body bytes received."""
        assert self._socket is not None
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}"
        if size:
            head += f"Content-Length: {size}\r\n"
        await self._loop.sock_sendall(self._socket, f"{head}\r\n".encode())
        for start in range(0, size, len(_NOISE)):
            await self._loop.sock_sendall(self._socket, _NOISE[: min(len(_NOISE), size - start)])
        received = b""
        while _HEAD_END not in received:
            more = await self._loop.sock_recv(self._socket, 64 * 1024)
            if not more:
                raise ConnectionError("the app closed the connection")
            received += more
        lines, _, body = received.partition(_HEAD_END)
        self.kept = bytearray(body)
        fields = lines.lower().split(b"\r\n")
        length = next((int(f[15:]) for f in fields if f.startswith(b"content-length:")), 0)
        return int(fields[0].split()[1]), length, len(body)

    async def read(self, most: int) -> int:
        """Receive up to ``most`` bytes and drop them; return how many."""
        assert self._socket is not None
        return await self._loop.sock_recv_into(self._socket, self._view[:most])

    async def get(self, path: str, headers: str = "", *, keep: bool = False) -> tuple[int, int]:
        """Request and read a whole response; return its status and how many bytes it had."""
        status, length, received = await self.request("GET", path, headers)
        while received < length:
            more = await self.read(len(self._view))
            if not more:
                raise ConnectionError("the response was cut short")
            if keep:
                self.kept += self._view[:more]
            received += more
        return status, received


async def ranges(
    port: int,
    path: str,
    size: int,
    step: int,
    workers: int,
    rounds: int,
    source: str | None = None,
) -> Any:
    """Read a file ``rounds`` times by ranges of ``step`` bytes, over ``workers`` connections.

    With ``source``, a file on the disk, the bytes are compared.
    """
    todo = iter([start for _ in range(rounds) for start in range(0, size, step)])
    received = 0

    async def work() -> None:
        nonlocal received
        async with Connection(port) as connection:
            for start in todo:
                wanted = f"Range: bytes={start}-{min(start + step, size) - 1}\r\n"
                status, got = await connection.get(path, wanted, keep=source is not None)
                if status != 206:
                    raise RuntimeError(f"status {status} for {wanted.strip()}")
                if source is not None and bytes(connection.kept) != _bytes(source, start, got):
                    raise RuntimeError(f"other bytes for {wanted.strip()}")
                received += got

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())
    return {"received": received, "wall_s": time.perf_counter() - begun}


def _bytes(source: str, start: int, size: int) -> bytes:
    with open(source, "rb") as file:  # noqa: PTH123 - a name is what the command carries
        file.seek(start)
        return file.read(size)


async def players(
    port: int, path: str, count: int, rate: int, seconds: float, listing: str, pause: float
) -> Any:
    """Play at ``rate`` bytes/s on ``count`` connections; time a listing every ``pause`` seconds."""
    statuses: dict[int, int] = {}
    played = [0] * count
    began: list[float] = []
    latest = time.perf_counter() + seconds

    async def play(number: int) -> None:
        # They do not begin in the same moment.
        await asyncio.sleep(random.random())
        async with Connection(port, receive_buffer=_RECEIVE_BUFFER) as connection:
            asked = time.perf_counter()
            status, length, received = await connection.request("GET", path, "Range: bytes=0-\r\n")
            began.append(time.perf_counter() - asked)
            statuses[status] = statuses.get(status, 0) + 1
            due = time.perf_counter()
            while received < length:
                due += 1
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                if time.perf_counter() > latest:
                    break
                wanted = min(rate, length - received)
                while wanted and (more := await connection.read(wanted)):
                    wanted -= more
                    received += more
                if wanted:
                    raise ConnectionError("a player's response was cut short")
            played[number] = received

    latencies: list[float] = []
    failed: dict[int, int] = {}

    async def look() -> None:
        async with Connection(port) as connection:
            # Until all players have begun.
            await asyncio.sleep(min(2, seconds / 4))
            while time.perf_counter() < latest:
                begun = time.perf_counter()
                status, _ = await connection.get(listing)
                latencies.append(time.perf_counter() - begun)
                if status != 200:
                    failed[status] = failed.get(status, 0) + 1
                await asyncio.sleep(pause)

    outcomes = await asyncio.gather(
        look(), *(play(number) for number in range(count)), return_exceptions=True
    )
    errors = [f"{type(one).__name__}: {one}" for one in outcomes if one is not None]
    return {
        "statuses": statuses,
        "errors": errors[:3],
        "failed_players": len(errors),
        "played_kb_s": sum(played) / count / seconds / 1000,
        "slowest_kb_s": min(played) / seconds / 1000,
        "start_p50_ms": 1000 * percentile(began, 0.5),
        "start_max_ms": 1000 * max(began),
        "listings": len(latencies),
        "failed_listings": failed,
        "p50_ms": 1000 * percentile(latencies, 0.5),
        "p99_ms": 1000 * percentile(latencies, 0.99),
        "max_ms": 1000 * max(latencies),
    }


async def uploads(port: int, path: str, count: int, size: int) -> Any:
    """Send ``count`` bodies of ``size`` bytes at once."""
    statuses: dict[int, int] = {}

    async def send(number: int) -> None:
        async with Connection(port) as connection:
            status, _, _ = await connection.request("PUT", f"{path}/{number}.webm", size=size)
            statuses[status] = statuses.get(status, 0) + 1

    begun = time.perf_counter()
    outcomes = await asyncio.gather(*(send(n) for n in range(count)), return_exceptions=True)
    errors = [f"{type(one).__name__}: {one}" for one in outcomes if one is not None]
    wall = time.perf_counter() - begun
    return {"statuses": statuses, "errors": errors[:3], "wall_s": wall}


_COMMANDS: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
    "ranges": ranges,
    "players": players,
    "uploads": uploads,
}


def main() -> None:
    for line in sys.stdin:
        command = json.loads(line)
        result = asyncio.run(_COMMANDS[command.pop("do")](**command))
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
