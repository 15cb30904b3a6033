"""``python -m benchmarks.players``: a thousand slow players, and many uploads, through one app.

The app is one process of uvicorn. Players read 20 kB/s each, as an audio player that has buffered
enough does, while another client lists files through the same app. Uploads are streamed, and then
read whole as a naive app does it. Players and senders are another process, and so is the server.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks.about import about, summary
from benchmarks.model import MIB, Endpoint
from benchmarks.options import default_folder
from benchmarks.places import end_cleanly, say, serve, work_folder
from benchmarks.plan import FULL, Place
from benchmarks.report import number, table

_MB = 1_000_000
_ROOT = Path(__file__).resolve().parent.parent


class Process:
    """A module run as a process, which reads and writes lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def send(self, what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def receive(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended without a result")
        return json.loads(line)


@contextmanager
def running(module: str) -> Iterator[Process]:
    """Run a module; it ends when its stdin does."""
    command = [sys.executable, "-m", module]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT
    ) as process:
        try:
            yield Process(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def measure(endpoint: Endpoint, command: dict[str, Any], notsent_lowat: int = 0) -> dict[str, Any]:
    """Run one command against a new app; return what the load and the app measured."""
    with running("benchmarks.web.app") as app, running("benchmarks.web.load") as load:
        app.send({"endpoint": asdict(endpoint), "notsent_lowat": notsent_lowat})
        port = app.receive()
        # Connections and lazily imported modules are not what is measured.
        _get(port, "/list")
        load.send({"do": "uploads", "port": port, "path": "/streamed", "count": 4, "size": 6 * _MB})
        load.receive()
        begun = _get(port, "/begin")
        load.send({**command, "port": port})
        result: dict[str, Any] = load.receive()
        return {**result, "before_mib": begun["rss_mib"], **_get(port, "/end")}


def _get(port: int, path: str) -> Any:
    with urlopen(f"http://127.0.0.1:{port}{path}") as response:
        return json.load(response)


_PLAYED = {
    "players": "players",
    "listing p50 ms": "p50_ms",
    "p99": "p99_ms",
    "longest": "max_ms",
    "failed": "failed",
    "start p50 ms": "start_p50_ms",
    "longest start": "start_max_ms",
    "slowest player kB/s": "slowest_kb_s",
    "CPU s": "cpu_s",
    "peak RSS MiB": "peak_rss_mib",
    "before": "before_mib",
    "descriptors": "descriptors",
}
_UPLOADED = {
    "uploads": "uploads",
    "stored": "stored",
    "wall s": "wall_s",
    "CPU s": "cpu_s",
    "peak RSS MiB": "peak_rss_mib",
    "before": "before_mib",
    "descriptors": "descriptors",
    "lag p99 ms": "lag_p99_ms",
}


def show(columns: dict[str, str], results: list[dict[str, Any]]) -> None:
    """Print a table with a line for each result."""
    lines = [[_text(result[name]) for name in columns.values()] for result in results]
    print(f"{table(list(columns), lines)}\n", flush=True)


def _text(value: Any) -> str:
    return number(value, 1) if isinstance(value, float) else str(value)


def play(endpoint: Endpoint, key: str, count: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """Let so many players play, beside a listing; return the numbers."""
    say(f"{count} players ...")
    command = {"do": "players", "path": f"/play/{key}", "count": count, "rate": chosen.rate}
    command |= {"seconds": chosen.seconds, "listing": "/list", "pause": 0.05}
    result = measure(endpoint, command, chosen.notsent_lowat)
    if result["errors"] or list(result["statuses"]) != ["206"]:
        say(f"  {result['failed_players']} failed: {result['errors']}, {result['statuses']}")
    failed = result["failed_players"] + sum(result["failed_listings"].values())
    return {**result, "players": count, "failed": failed}


def upload(endpoint: Endpoint, path: str, size: int, count: int) -> dict[str, Any]:
    """Send so many bodies at once; return the numbers."""
    say(f"{count} uploads, {path} ...")
    result = measure(endpoint, {"do": "uploads", "path": path, "count": count, "size": size})
    if result["errors"]:
        say(f"  {result['errors']}")
    stored = result["statuses"].get("201", 0)
    return {**result, "uploads": f"{count} {path[1:]}", "stored": stored}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.players", description=__doc__)
    parser.add_argument("--players", type=int, nargs="*", default=[1, 100, 1000])
    parser.add_argument("--rate", type=int, default=20_000, help="bytes per second of a player")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--uploads", type=int, default=200, help="uploads at once; 0 for none")
    parser.add_argument("--megabytes", type=int, default=20, help="of each upload and recording")
    parser.add_argument(
        "--notsent-lowat",
        type=int,
        default=0,
        metavar="BYTES",
        help="TCP_NOTSENT_LOWAT of the app's connections to players; 0: the system's default",
    )
    parser.add_argument("--server", choices=("null", "seaweed"), default="null")
    chosen = parser.parse_args()
    end_cleanly()
    size = chosen.megabytes * _MB
    with work_folder(default_folder()) as folder, serve(Place(chosen.server), folder) as endpoint:
        key = f"recordings/CA1/size-{size}.webm"
        if chosen.server == "seaweed":
            # Here, since obstore is not installed where the tests run.
            import obstore

            from benchmarks.clients.obstore_client import open_store

            obstore.put(open_store(endpoint), key, bytes(size), chunk_size=10 * MIB)
        if chosen.players:
            show(_PLAYED, [play(endpoint, key, count, chosen) for count in chosen.players])
        if chosen.uploads:
            paths = ("/streamed", "/naive")
            show(_UPLOADED, [upload(endpoint, path, size, chosen.uploads) for path in paths])
    print(summary(about(FULL)))


if __name__ == "__main__":
    main()
