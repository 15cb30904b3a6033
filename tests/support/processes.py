"""Programs that tests start: workers, and a Redis that can be stopped and started again."""

from __future__ import annotations

import os
import queue
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

WAIT_SECONDS = 120


class Program:
    """A process whose lines are waited for."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._log = (folder / "log").open("a+b")
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | environment | {"PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            # A group of its own: a signal for the worker reaches its processes, and nothing else.
            start_new_session=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._seen: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())
        self._lines.put(None)

    def wait_for(self, *wanted: str) -> None:
        """Read until each of these lines has come."""
        missing = set(wanted) - set(self._seen)
        while missing:
            line = self._lines.get(timeout=WAIT_SECONDS)
            assert line is not None, f"ended without {missing}: {self._seen} {self.log()}"
            self._seen.append(line)
            missing.discard(line)

    def log(self) -> str:
        """What it has written to stderr."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def end(self, with_signal: int | None = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        if with_signal is not None:
            self._process.send_signal(with_signal)
        return self._process.wait(WAIT_SECONDS)

    def kill_all(self) -> None:
        """Kill it and all processes that it has started, as when the machine loses power."""
        self._kill_group()
        self._process.wait(WAIT_SECONDS)

    def close(self) -> None:
        """Kill what is left of it."""
        self._kill_group()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    def _kill_group(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def python(folder: Path, *arguments: str, **environment: str) -> str:
    """Run Python to its end; return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | environment | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Redis:
    """A Redis that keeps what it has, also over a kill."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed")
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}"
        self._command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        self._command += ["--appendonly", "yes", "--appendfsync", "always", "--dir", str(folder)]

    def start(self) -> None:
        """Start it, with what it had."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "Ready to accept connections" in line:
                break
        self._reader = threading.Thread(target=self._process.stdout.read, daemon=True)
        self._reader.start()

    def stop(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def running_redis(folder: Path) -> Iterator[Redis]:
    """A Redis of this test's own."""
    folder.mkdir(parents=True, exist_ok=True)
    redis = Redis(folder)
    redis.start()
    try:
        yield redis
    finally:
        redis.stop()


def free_port() -> int:
    """A port on which nothing listens, for programs that cannot choose one.

    Ports that systems give to outgoing connections begin at 32768: a connection could take one of
    those before the program does, or while it restarts. `LocalServer` uses ports below 31000.
    """
    # Of the system: other processes may have seeded theirs alike.
    for port in random.SystemRandom().sample(range(31_000, 32_768), k=100):
        with socket.socket() as plug, suppress(OSError):
            plug.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def wait_until(
    condition: Callable[[], bool], report: Callable[[], str], seconds: float = WAIT_SECONDS
) -> None:
    """Wait for a condition of other processes, which send no event."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, report()
        time.sleep(0.02)
