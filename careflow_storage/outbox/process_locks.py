"""Who is alive: every open outbox holds a file lock, which dies with its process.

The kernel drops ``flock`` at whatever death, kill -9 included, at once. So what a dead process
was doing is known to be over without waiting for a time to pass.
"""

from __future__ import annotations

import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class FileLock:
    """A lock on a file, held until `release` or the end of the process."""

    def __init__(self, path: Path, *, wait: bool) -> None:
        """Take it; blocks while another holds it, or raises BlockingIOError at once.

        A forked child inherits it: it is free only when both are gone.
        """
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(self._file, wait=wait)
        except BaseException:
            os.close(self._file)
            raise

    def release(self) -> None:
        """Let go of it; safe to call twice."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def _lock(file: int, *, wait: bool) -> None:
    if sys.platform == "win32":
        while True:
            try:
                msvcrt.locking(file, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except OSError as error:
                if not wait:
                    raise BlockingIOError(*error.args) from error
            else:
                return
    else:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


class ProcessLocks:
    """The folder of these locks. To be used behind the gate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def enter(self) -> FileLock:
        """Wait at the gate: whoever opens or tidies up an outbox does it alone."""
        return FileLock(self._folder / "gate", wait=True)

    def join(self) -> tuple[str, FileLock]:
        """Make a new owner, alive as long as its lock is held."""
        name = secrets.token_hex(8)
        return name, FileLock(self._folder / f"{name}.lock", wait=False)

    def leave(self, name: str, lock: FileLock) -> None:
        """End an owner who leaves nothing behind; at any time, it needs no gate."""
        lock.release()
        self.bury({name})

    def census(self) -> tuple[set[str], set[str]]:
        """Return the names of the living and of the dead."""
        living, dead = set[str](), set[str]()
        for path in self._folder.glob("*.lock"):
            try:
                FileLock(path, wait=False).release()
            except BlockingIOError:
                living.add(path.stem)
            else:
                dead.add(path.stem)
        return living, dead

    def bury(self, names: set[str]) -> None:
        """Forget the dead, when nothing of theirs is left."""
        for name in names:
            # Windows refuses while somebody looks at it; then it is done the next time.
            with suppress(PermissionError):
                (self._folder / f"{name}.lock").unlink(missing_ok=True)
