"""The files and sockets that this process has open, on Linux.

Count what a test itself opens: sockets of earlier tests close whenever the threads of their
servers get to it.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit


def descriptors() -> list[str]:
    """The targets of all file descriptors."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        # The descriptor that reads the folder is closed by now.
        with suppress(FileNotFoundError):
            found.append(str(descriptor.readlink()))
    return sorted(found)


def open_files(folder: Path) -> list[str]:
    """The files and folders below ``folder``, removed ones too."""
    return [name for name in descriptors() if name.startswith(str(folder))]


def sockets_to(url: str) -> set[str]:
    """The sockets that are connected to this server."""
    port = f":{urlsplit(url).port:04X}"
    lines = Path("/proc/self/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    connected = {f"socket:[{line.split()[9]}]" for line in lines if line.split()[2].endswith(port)}
    return connected & set(descriptors())
