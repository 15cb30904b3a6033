"""``careflow-storage demo --web``: the app runs, has something to play, and stops at a signal."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.integration]

COMMAND = [sys.executable, "-W", "error", "-m", "careflow_storage", "demo", "--web"]


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the demo; it is killed if the test fails before it has ended."""
    pipe = subprocess.PIPE
    command = [*COMMAND, *arguments]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def client_of(link: str) -> httpx.Client:
    """Return a client that is signed in as the link's user."""
    page, _, token = link.partition("#token=")
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=page, headers=headers, trust_env=False)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_app_runs_until_a_signal(end: signal.Signals, tmp_path: Path) -> None:
    with started("--json", "--data-dir", str(tmp_path / "kept")) as process:
        assert process.stdout is not None
        links = json.loads(process.stdout.readline())["links"]
        assert set(links) == {"anna", "ben"}
        token = links["anna"].partition("#token=")[2]
        with client_of(links["ben"]) as client:
            (other,) = client.get("/api/recordings").json()["recordings"]
            assert other["call"] == "Example 3"
        with client_of(links["anna"]) as client:
            assert "<title>Recordings</title>" in client.get("/").text
            recordings = client.get("/api/recordings").json()["recordings"]
            titles = {recording["title"] for recording in recordings}
            assert titles == {"greeting.webm", "greeting.ogg"}
            assert token not in client.get("/api/usage").text
        process.send_signal(end)
        output, errors = process.communicate(timeout=100)
    assert (process.returncode, output, errors) == (0, "", "")


def test_a_port_that_is_taken_is_named() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with started("--port", str(port)) as process:
            _, errors = process.communicate(timeout=100)
    assert process.returncode == 2
    assert f"The port {port} is taken." in errors


def test_without_a_browser_the_terminal_says_so() -> None:
    ours, its = pty.openpty()
    environment = os.environ | {"PATH": "", "DISPLAY": ":99"}
    with subprocess.Popen(COMMAND, stdout=its, stderr=its, env=environment) as process:
        os.close(its)
        printed = b""
        while b"No browser was found." not in printed:
            printed += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        while b"Stopped." not in printed:
            printed += os.read(ours, 65536)
    os.close(ours)
    assert process.returncode == 0


def test_without_its_libraries_the_demo_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['wsproto'] = None\n"
        "from careflow_storage.cli import main\n"
        "sys.argv = ['careflow-storage', 'demo', '--web']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    assert 'pip install "careflow-storage[demo]"' in done.stderr
