"""The dashboard in examples/grafana asks for metrics that are exported; Prometheus evaluates it."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest, start_http_server

from careflow_storage import BackblazeStorage
from careflow_storage.errors import StorageError
from careflow_storage.integrations.opentelemetry import OpenTelemetryHooks
from careflow_storage.testing import B2Server
from tests.support.processes import free_port

DASHBOARD = Path(__file__).parents[2] / "examples" / "grafana" / "dashboard.json"
NAME = re.compile(r"\bhttp_client_[a-z_]+")
LABEL = re.compile(r"(?:by \(|, |\{|,)(rpc_method|error_type|http_[a-z_]+|server_address|le)\b")


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def expressions() -> list[str]:
    """The queries of all panels, with Grafana's variables replaced."""
    return [
        target["expr"].replace("$__rate_interval", "10s").replace("$server", ".*")
        for panel in dashboard()["panels"]
        for target in panel["targets"]
    ]


@pytest.fixture
def provider() -> Iterator[MeterProvider]:
    # It registers itself with the default registry of prometheus_client.
    reader = PrometheusMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider
    provider.shutdown()


async def use(storage: BackblazeStorage, server: B2Server) -> None:
    """Send requests of all kinds; one is refused, one fails."""
    server.faults.next("PutObject", status=503, code="SlowDown")
    await storage.upload_file("key", b"a recording")
    await storage.get_file("key")
    server.faults.next("GetObject", status=403, code="AccessDenied")
    with pytest.raises(StorageError):
        await storage.get_file("key")


@asynccontextmanager
async def opened(server: B2Server, provider: MeterProvider) -> AsyncIterator[BackblazeStorage]:
    settings = server.settings(retry_base_delay=0.001, retry_max_delay=0.01)
    hooks = OpenTelemetryHooks(meter_provider=provider)
    async with BackblazeStorage(settings, hooks=[hooks]) as storage:
        yield storage


def test_every_panel_has_a_place_a_source_and_a_text() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


async def test_every_metric_and_label_of_the_dashboard_is_exported(
    server: B2Server, provider: MeterProvider
) -> None:
    async with opened(server, provider) as storage:
        await use(storage, server)
    exported = generate_latest(REGISTRY).decode()
    lines = [line for line in exported.splitlines() if line.startswith("http_client_")]
    names = {line.partition("{")[0] for line in lines}
    labels = {name for line in lines for name in re.findall(r'(\w+)="', line)}

    wanted = {name for expression in expressions() for name in NAME.findall(expression)}
    assert wanted
    assert wanted <= names
    assert {name for text in expressions() for name in LABEL.findall(text)} <= labels
    assert '"key"' not in exported


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed")
async def test_a_real_prometheus_has_a_value_for_every_query(
    server: B2Server, provider: MeterProvider, tmp_path: Path
) -> None:
    exporter, _ = start_http_server(0, addr="127.0.0.1")
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n"
        "scrape_configs:\n- job_name: app\n  static_configs:\n"
        f"  - targets: ['127.0.0.1:{exporter.server_port}']\n"
    )
    try:
        async with opened(server, provider) as storage, prometheus(config, tmp_path) as api:
            missing = set(expressions())
            while missing:
                await use(storage, server)
                for expression in sorted(missing):
                    if await has_value(api, expression):
                        missing.remove(expression)
    finally:
        exporter.shutdown()
        exporter.server_close()


async def has_value(api: httpx.AsyncClient, expression: str) -> bool:
    response = await api.get("/api/v1/query", params={"query": expression})
    # A query that Prometheus cannot parse is a 400.
    response.raise_for_status()
    values = [float(each["value"][1]) for each in response.json()["data"]["result"]]
    return any(not math.isnan(value) for value in values)


@asynccontextmanager
async def prometheus(config: Path, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    address = f"127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}") as api:
            while not await is_ready(api):
                assert process.returncode is None
                await asyncio.sleep(0.05)
            yield api
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def is_ready(api: httpx.AsyncClient) -> bool:
    try:
        return (await api.get("/-/ready")).status_code == 200
    except httpx.TransportError:
        return False
