"""The CPU and the memory of a program and of all processes that it starts. Linux only."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_EVERY_S = 0.1
_TICK = os.sysconf("SC_CLK_TCK")
_TOLD = 2000


@dataclass(frozen=True, slots=True)
class Cost:
    """What a program took. The peak is of all its processes together, shared pages counted once."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def run_watched(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, timeout_s: float
) -> Cost:
    """Run a program to its end, in a session of its own, and return what it took.

    Raises:
        RuntimeError: It failed, or took too long. No process of its session is left.
    """
    output = folder / "output.txt"
    begun, before = time.perf_counter(), _children_cpu_s()
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    watch = _Watch(process.pid)
    try:
        with watch:
            code = process.wait(timeout_s)
        wall_s = time.perf_counter() - begun
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{command[0]} was not done after {timeout_s:g} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if code != 0:
        said = output.read_text(errors="replace")[-_TOLD:]
        raise RuntimeError(f"{command[0]} ended with {code}: {said}")
    # A process that its parent did not wait for is in the samples alone.
    return Cost(wall_s, max(watch.cpu_s, _children_cpu_s() - before), watch.peak_mib)


def _children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


class _Watch:
    """Samples the processes of a session in a thread."""

    def __init__(self, session: int) -> None:
        self._session = session
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._cpu_s: dict[tuple[int, str], float] = {}
        self.peak_mib = 0.0

    @property
    def cpu_s(self) -> float:
        """The last reading of each process, added up."""
        return sum(self._cpu_s.values())

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *failure: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_EVERY_S):
            memory = 0.0
            for folder in Path("/proc").glob("[0-9]*"):
                # It may end between two reads.
                with suppress(OSError):
                    memory += self._read(folder)
            self.peak_mib = max(self.peak_mib, memory)

    def _read(self, folder: Path) -> float:
        # The name, in brackets, may hold spaces.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        if int(fields[3]) != self._session:
            return 0.0
        self._cpu_s[int(folder.name), fields[19]] = (int(fields[11]) + int(fields[12])) / _TICK
        sums = (folder / "smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) / 1024 for line in sums if line.startswith("Pss:"))
