"""Which processes are alive: every open outbox holds a lock on a file of its own.

When a process ends, by kill -9 too, the kernel releases its locks immediately. So its leases can
be ended without a timeout.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from careflow_storage._file_lock import FileLock


class ProcessLocks:
    """The folder of the locks. Call its methods while you hold the gate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def enter(self) -> FileLock:
        """Take the gate, a lock that only one process at a time holds to open or tidy up."""
        return FileLock(self._folder / "gate", wait=True)

    def join(self) -> tuple[str, FileLock]:
        """Return a new owner and its lock. The owner is alive while it holds the lock."""
        name = secrets.token_hex(8)
        return name, FileLock(self._folder / f"{name}.lock", wait=False)

    def leave(self, name: str, lock: FileLock) -> None:
        """Remove an owner that has released its leases. Needs no gate."""
        lock.release()
        self.remove({name})

    def census(self) -> tuple[set[str], set[str]]:
        """Return the names of the living owners, and those of the dead."""
        living, dead = set[str](), set[str]()
        for path in self._folder.glob("*.lock"):
            try:
                FileLock(path, wait=False).release()
            except BlockingIOError:
                living.add(path.stem)
            else:
                dead.add(path.stem)
        return living, dead

    def remove(self, names: set[str]) -> None:
        """Delete the lock files of dead processes, after their leases were ended."""
        for name in names:
            # Windows refuses while another process has the file open: it is deleted next time.
            with suppress(PermissionError):
                (self._folder / f"{name}.lock").unlink(missing_ok=True)
