"""The limits that the operating system enforces on the child process.

They are set after all libraries are loaded. On Linux a child then cannot open another file or
socket. Windows has none of these limits; the parent's time limit applies everywhere.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import resource


def apply_limits(*, cpu: int, memory: int, written: int, files: int) -> None:
    """Limit this process, permanently.

    Args:
        cpu: Seconds of processor time.
        memory: Bytes of address space, in addition to what the process uses now.
        written: The most bytes in a file that it writes.
        files: How many more files it may open.
    """
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        # The event loop of the parent, and others, come first.
        os.nice(10)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, cpu)
    _limit(resource.RLIMIT_FSIZE, written)
    if sys.platform == "linux":
        # For root the system does not enforce it.
        _limit(resource.RLIMIT_NPROC, 0)
        highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
        statm = Path("/proc/self/statm").read_text(encoding="ascii")
        _limit(resource.RLIMIT_NOFILE, _free_above(highest) + files)
        # Last: the steps above may need memory themselves.
        _limit(resource.RLIMIT_AS, int(statm.split()[0]) * resource.getpagesize() + memory)


def _free_above(highest: int) -> int:
    """Return the lowest limit of descriptors with which none can be opened."""
    used = set()
    for number in range(highest + 1):
        with contextlib.suppress(OSError):
            os.fstat(number)
            used.add(number)
    # The limit is a number above all descriptors: those in gaps below it would be free.
    for number in range(max(used, default=-1)):
        if number not in used:
            os.dup2(0, number)
    return max(used, default=-1) + 1


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(kind, (value, value))
