"""SeaweedFS with a counter of its requests."""

from __future__ import annotations

import http.client
import json
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from benchmarks.model import Endpoint
from benchmarks.servers import free_port, running
from careflow_storage._s3.signing.signer import Credentials
from careflow_storage.local.client import REGION, SyncClient
from careflow_storage.local.process import choose_ports, find_binary
from careflow_storage.local.server import FLAGS

BUCKET = "bench"
_KEY_ID = "benchmark"
_COUNTED = re.compile(
    rf'^SeaweedFS_s3_request_total{{bucket="{BUCKET}",code="\d+",type="(\w+)"}} (\S+)$',
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. ``metrics`` is the URL of its counters."""

    endpoint: Endpoint
    metrics: str

    def requests(self) -> Counter[str]:
        """Return the requests for objects so far: GET (and HEAD), PUT, POST, DELETE, LIST."""
        with urlopen(self.metrics) as response:  # noqa: S310 - http of this machine
            text = response.read().decode()
        counts = Counter[str]()
        for kind, count in _COUNTED.findall(text):
            counts[kind] += round(float(count))
        return counts


@contextmanager
def seaweed(folder: Path) -> Iterator[Server]:
    """Run a server with its data in this folder, which is removed at the end."""
    folder.mkdir()
    (folder / "data").mkdir()
    secret, metrics = secrets.token_urlsafe(24), free_port()
    identity = {
        "name": _KEY_ID,
        "credentials": [{"accessKey": _KEY_ID, "secretKey": secret}],
        "actions": ["Admin"],
    }
    config = folder / "identities.json"
    config.write_text(json.dumps({"identities": [identity]}))
    ports = choose_ports(None)
    url = f"http://127.0.0.1:{ports['s3.port']}"
    command = [
        *(str(find_binary()), f"-logdir={folder}", "mini", f"-dir={folder / 'data'}"),
        *(f"-s3.config={config}", *FLAGS, f"-metricsPort={metrics}"),
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    client = SyncClient(url, Credentials(_KEY_ID, secret), None)
    with running(command, folder / "output.log", lambda: _is_ready(client)):
        yield Server(
            Endpoint(url, BUCKET, _KEY_ID, secret, REGION), f"http://127.0.0.1:{metrics}/metrics"
        )
    shutil.rmtree(folder)


def _is_ready(client: SyncClient) -> bool:
    """Return whether the bucket takes objects. The first ones can fail after the start."""
    try:
        client.create_bucket(BUCKET)
        return (
            client.request("PUT", f"/{BUCKET}/probe", body=b"?").status < 300
            and client.request("DELETE", f"/{BUCKET}/probe").status < 300
        )
    except (OSError, http.client.HTTPException):
        return False
