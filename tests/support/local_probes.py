"""Checks of a running local server from outside."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from pathlib import Path

from careflow_storage._s3.signing.signer import Credentials
from careflow_storage.local import LocalServer
from careflow_storage.local.client import SyncClient


def client_for(server: LocalServer, credentials: Credentials | None = None) -> SyncClient:
    settings = server.settings()
    assert settings.key_id is not None
    assert settings.application_key is not None
    mine = Credentials(settings.key_id, settings.application_key.get_secret_value())
    return SyncClient(server.endpoint, credentials or mine, settings.ca_file)


def port_of(server: LocalServer) -> int:
    return int(server.endpoint.rpartition(":")[2])


def is_listening(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def server_pid(server: LocalServer) -> int:
    assert server._process is not None
    return server._process.pid


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_dead(pid: int) -> None:
    # Not our child, so it cannot be waited for: its pidfd becomes readable when it ends.
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poller = select.poll()
        poller.register(descriptor)
        assert poller.poll(10_000), "the server outlived its parent"
    finally:
        os.close(descriptor)
