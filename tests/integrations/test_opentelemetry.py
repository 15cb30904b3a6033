"""Spans and metrics: their names, parents and ends, and no key, URL or secret in them."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from opentelemetry import trace
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from careflow_storage import BackblazeStorage, CustomerKey, NoSuchKeyError, StorageSettings
from careflow_storage.errors import InvalidInputError, ServiceUnavailableError, StorageError
from careflow_storage.integrations.fastapi import file_response
from careflow_storage.integrations.opentelemetry import OpenTelemetryHooks
from careflow_storage.testing import B2Server
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import PART, storage_behind
from tests.support.bodies import noise
from tests.support.bucket import Bucket
from tests.support.every_call import CALLS, OTHER, World
from tests.support.url_source import Source

SMALL = b"a short recording"
LARGE = noise(3 * PART)


class Telemetry:
    """The spans and metrics of one test."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._metrics = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meter_provider = MeterProvider([self._metrics], shutdown_on_exit=False)

    def hooks(self, **options: Any) -> OpenTelemetryHooks:
        return OpenTelemetryHooks(
            tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, **options
        )

    def take(self) -> list[ReadableSpan]:
        """Return the spans that have ended, in the order of their beginnings; forget them."""
        spans = sorted(self._spans.get_finished_spans(), key=lambda span: span.start_time or 0)
        self._spans.clear()
        return spans

    def points(self, name: str) -> list[Any]:
        data = self._metrics.get_metrics_data()
        metrics = [
            metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return [
            point for metric in metrics if metric.name == name for point in metric.data.data_points
        ]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    found = Telemetry()
    yield found
    found.tracer_provider.shutdown()
    found.meter_provider.shutdown()


@pytest.fixture
async def storage(
    proxy: FaultProxy, settings: StorageSettings, telemetry: Telemetry
) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings, hooks=[telemetry.hooks()]) as opened:
        yield opened


def parent_of(span: ReadableSpan, spans: list[ReadableSpan]) -> str | None:
    if span.parent is None:
        return None
    return next(
        each.name
        for each in spans
        if each.context is not None and each.context.span_id == span.parent.span_id
    )


def tree(spans: list[ReadableSpan]) -> list[tuple[str, str | None]]:
    return [(span.name, parent_of(span, spans)) for span in spans]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - spans set no event
        await asyncio.sleep(0.001)


# --- spans ------------------------------------------------------------------------------


async def test_an_upload_in_parts_is_one_trace(
    storage: BackblazeStorage, telemetry: Telemetry
) -> None:
    await storage.upload_file("large", LARGE)

    spans = telemetry.take()
    upload = "careflow_storage.upload_file"
    assert tree(spans) == [
        (upload, None),
        ("S3.CreateMultipartUpload", upload),
        *[("S3.UploadPart", upload)] * 3,
        ("S3.CompleteMultipartUpload", upload),
    ]
    assert len({span.context.trace_id for span in spans if span.context is not None}) == 1
    call, *requests = spans
    assert call.kind is SpanKind.INTERNAL
    assert attributes(call) == {"aws.s3.bucket": storage.settings.bucket_name}
    assert {span.kind for span in requests} == {SpanKind.CLIENT}
    assert {span.status.status_code for span in spans} == {StatusCode.UNSET}
    part = next(span for span in requests if attributes(span).get("aws.s3.part_number") == 1)
    assert attributes(part) == {
        "rpc.system.name": "aws-api",
        "rpc.method": "UploadPart",
        "aws.s3.bucket": storage.settings.bucket_name,
        "aws.s3.upload_id": attributes(requests[-1])["aws.s3.upload_id"],
        "aws.s3.part_number": 1,
        "http.request.method": "PUT",
        "http.request.body.size": PART,
        "http.response.status_code": 200,
        "http.response.body.size": 0,
        "server.address": "127.0.0.1",
        "server.port": int(httpx.URL(storage.settings.endpoint or "").port or 0),
    }
    scope = part.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.schema_url) == (
        "careflow_storage",
        "https://opentelemetry.io/schemas/1.44.0",
    )


async def test_the_request_id_is_that_of_the_server(server: B2Server, telemetry: Telemetry) -> None:
    async with BackblazeStorage(server.settings(), hooks=[telemetry.hooks()]) as storage:
        with pytest.raises(NoSuchKeyError) as caught:
            await storage.get_file("missing")
    request = telemetry.take()[-1]
    assert attributes(request)["aws.request_id"] == caught.value.request_id


async def test_a_retry_is_a_span_of_its_own(
    storage: BackblazeStorage, proxy: FaultProxy, telemetry: Telemetry
) -> None:
    proxy.add(times=1, status=503, code="SlowDown")
    proxy.add(times=1, cut="rst")
    await storage.upload_file("key", SMALL)

    call, first, second, third = telemetry.take()
    assert call.status.status_code is StatusCode.UNSET
    assert [
        (
            attributes(span).get("http.request.resend_count"),
            attributes(span).get("error.type"),
            attributes(span).get("http.response.status_code"),
        )
        for span in (first, second, third)
    ] == [
        (None, "ServiceUnavailableError", 503),
        (1, "ConnectionFailedError", None),
        (2, None, 200),
    ]
    assert first.status.status_code is second.status.status_code is StatusCode.ERROR
    assert first.status.description is None
    assert not first.events


async def test_a_failed_call_has_the_status_error(
    storage: BackblazeStorage, proxy: FaultProxy, telemetry: Telemetry
) -> None:
    with pytest.raises(NoSuchKeyError):
        await storage.get_file("missing")
    assert not await storage.file_exists("missing")
    proxy.add(method="GET", status=503)
    with pytest.raises(ServiceUnavailableError):
        await storage.list_files()

    calls = [span for span in telemetry.take() if span.kind is SpanKind.INTERNAL]
    assert [(attributes(span).get("error.type"), span.status.status_code) for span in calls] == [
        ("NoSuchKeyError", StatusCode.ERROR),
        (None, StatusCode.UNSET),
        ("ServiceUnavailableError", StatusCode.ERROR),
    ]


async def test_a_cancelled_call_is_no_error(
    storage: BackblazeStorage, proxy: FaultProxy, telemetry: Telemetry
) -> None:
    hanging = proxy.add(method="PUT", cut="hang")
    upload = asyncio.create_task(storage.upload_file("key", SMALL))
    await hanging.fired.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload

    spans = telemetry.take()
    assert tree(spans) == [
        ("careflow_storage.upload_file", None),
        ("S3.PutObject", "careflow_storage.upload_file"),
    ]
    assert [attributes(span)["error.type"] for span in spans] == ["CancelledError"] * 2
    assert {span.status.status_code for span in spans} == {StatusCode.UNSET}


async def test_a_stream_ends_its_spans_when_it_is_read_or_closed(
    storage: BackblazeStorage, telemetry: Telemetry
) -> None:
    await storage.upload_file("there", LARGE)
    telemetry.take()
    stream = storage.stream_file("there")
    chunks = aiter(stream)
    await anext(chunks)
    assert telemetry.take() == []
    await stream.aclose()
    call, request = telemetry.take()
    assert (call.name, request.name) == ("careflow_storage.stream_file", "S3.GetObject")
    assert 0 < attributes(request)["http.response.body.size"] < len(LARGE)
    assert (call.end_time or 0) >= (request.end_time or 0)

    await storage.upload_file("copy", storage.stream_file("there"))
    assert tree(telemetry.take())[:3] == [
        ("careflow_storage.upload_file", None),
        ("careflow_storage.stream_file", "careflow_storage.upload_file"),
        ("S3.GetObject", "careflow_storage.stream_file"),
    ]


async def test_calls_belong_to_the_span_around_them(
    storage: BackblazeStorage, telemetry: Telemetry
) -> None:
    tracer = telemetry.tracer_provider.get_tracer("of the user")

    async def job(number: int) -> None:
        with tracer.start_as_current_span(f"job-{number}"):
            await storage.upload_file(f"key-{number}", SMALL)
            # What follows is not within the call.
            with tracer.start_as_current_span(f"after-{number}"):
                pass

    await asyncio.gather(*(job(number) for number in range(5)))
    spans = telemetry.take()
    for number in range(5):
        found = dict(tree([span for span in spans if span.name.endswith(f"-{number}")]))
        assert found[f"after-{number}"] == f"job-{number}"
    uploads = [span for span in spans if span.name == "careflow_storage.upload_file"]
    assert sorted(str(parent_of(span, spans)) for span in uploads) == [
        f"job-{number}" for number in range(5)
    ]
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_keys_are_recorded_on_request(
    settings: StorageSettings, telemetry: Telemetry
) -> None:
    async with BackblazeStorage(settings, hooks=[telemetry.hooks(record_keys=True)]) as storage:
        await storage.upload_recording("CA1", SMALL, "a.webm")
    keys = [attributes(span)["aws.s3.key"] for span in telemetry.take()]
    assert len(keys) == 2
    assert all(key.startswith("recordings/CA1/") for key in keys)


# --- metrics ----------------------------------------------------------------------------


async def test_the_metrics_count_requests_sizes_and_connections(
    proxy: FaultProxy, settings: StorageSettings, telemetry: Telemetry
) -> None:
    async with storage_behind(proxy, settings, hooks=[telemetry.hooks()]) as storage:
        hanging = proxy.add(method="GET", times=1, cut="hang")
        read = asyncio.create_task(storage.get_file("there"))
        await hanging.fired.wait()
        (active,) = telemetry.points("http.client.active_requests")
        assert (active.value, active.attributes["http.request.method"]) == (1, "GET")
        (connection,) = telemetry.points("http.client.open_connections")
        assert (connection.value, connection.attributes["http.connection.state"]) == (1, "active")
        read.cancel()
        await asyncio.wait({read})

        await storage.upload_file("large", LARGE)
        await storage.get_file("large")
        await storage.file_exists("missing")

    durations = telemetry.points("http.client.request.duration")
    by_method = {
        (point.attributes["rpc.method"], point.attributes.get("http.response.status_code")): point
        for point in durations
    }
    assert by_method["UploadPart", 200].count == 3
    assert by_method["HeadObject", 404].attributes["error.type"] == "NoSuchKeyError"
    assert by_method["GetObject", None].attributes["error.type"] == "CancelledError"
    assert by_method["GetObject", 200].explicit_bounds[:3] == (0.005, 0.01, 0.025)
    assert total_bytes(telemetry, "http.client.request.body.size", "UploadPart") == len(LARGE)
    assert total_bytes(telemetry, "http.client.response.body.size", "GetObject") == len(LARGE)
    assert {point.value for point in telemetry.points("http.client.active_requests")} == {0}
    assert {point.value for point in telemetry.points("http.client.open_connections")} == {0}


def total_bytes(telemetry: Telemetry, name: str, operation: str) -> int:
    points = telemetry.points(name)
    return sum(point.sum for point in points if point.attributes["rpc.method"] == operation)


# --- beside other instrumentations ------------------------------------------------------


async def test_beside_the_instrumentation_of_fastapi_each_request_has_one_span(
    settings: StorageSettings, telemetry: Telemetry
) -> None:
    app = FastAPI()
    async with BackblazeStorage(settings, hooks=[telemetry.hooks()]) as storage:
        await storage.upload_file("there", LARGE)
        telemetry.take()

        @app.get("/play")
        async def play(request: Request) -> Response:
            return await file_response(storage, "there", request)

        FastAPIInstrumentor.instrument_app(app, tracer_provider=telemetry.tracer_provider)
        try:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
                assert (await client.get("/play")).content == LARGE
        finally:
            FastAPIInstrumentor.uninstrument_app(app)

    spans = telemetry.take()
    assert [span.name for span in spans if span.kind is SpanKind.SERVER] == ["GET /play"]
    ours = [span for span in spans if span.instrumentation_scope is not None
            and span.instrumentation_scope.name == "careflow_storage"]  # fmt: skip
    assert [span.name for span in ours].count("S3.GetObject") == 1
    served = next(span for span in ours if span.name == "careflow_storage.serve_file")
    assert parent_of(served, spans) == "GET /play"
    assert len({span.context.trace_id for span in spans if span.context is not None}) == 1


INSTRUMENTORS: list[Any] = [BotocoreInstrumentor, AioHttpClientInstrumentor]


async def test_beside_the_instrumentations_of_botocore_and_aiohttp_no_span_is_doubled(
    settings: StorageSettings, telemetry: Telemetry
) -> None:
    # BotocoreInstrumentor has no types.
    instrumentors: list[Any] = [each() for each in INSTRUMENTORS]
    for each in instrumentors:
        each.instrument(tracer_provider=telemetry.tracer_provider)
    try:
        async with BackblazeStorage(settings, hooks=[telemetry.hooks()]) as storage:
            await storage.upload_file("key", SMALL)
            await storage.admin.copy_file("key", "copy")
            await storage.list_incomplete_uploads()
            await (await storage.client()).list_buckets()
    finally:
        for each in instrumentors:
            each.uninstrument()

    spans = telemetry.take()
    names = [span.name for span in spans]
    assert {span.instrumentation_scope.name for span in spans if span.instrumentation_scope} == {
        "careflow_storage"
    }
    for operation in ("PutObject", "CopyObject", "ListMultipartUploads", "ListBuckets"):
        assert names.count(f"S3.{operation}") == 1


# --- nothing secret ---------------------------------------------------------------------

SECRET = "test-application-key"
CUSTOMER = base64.b64encode(b"0123456789abcdefCUSTOMERKEY76543").decode()


async def test_no_attribute_has_a_key_a_url_or_a_secret(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    telemetry: Telemetry,
    settings: StorageSettings,
    tmp_path: Path,
) -> None:
    async with Source(LARGE) as source:
        world = World(storage, Bucket(settings), tmp_path, source.url, SMALL, LARGE)
        await storage.upload_file("there", LARGE)
        for key in OTHER:
            world.bucket.put(key, b"x")
        for number, call in enumerate(CALLS.values()):
            call.prepare(world, f"the-key-{number}")
            proxy.add(times=1, status=503, code="SlowDown", message="the-key is busy")
            await call.act(world, f"the-key-{number}")
    url = await storage.get_signed_url("there")
    customer_key = CustomerKey(key=base64.b64decode(CUSTOMER))
    for wrong in (
        storage.get_file("the-key-missing"),
        storage.upload_file("the-key-bad\n", SMALL),
        storage.get_file("there", encryption=customer_key),
        storage.upload_file("the-key", SMALL, metadata={"Authorization": SECRET + "\n"}),
        storage.upload_from_url("CA1", url, "a.wav"),
        storage.admin.get_lifecycle_rules(),
    ):
        try:
            await wrong
        except StorageError:
            continue
    proxy.add(status=403, code="SignatureDoesNotMatch", message=f"{url} {SECRET}")
    for number, call in enumerate(CALLS.values()):
        try:
            await call.act(world, f"the-key-{number}")
        except StorageError:
            continue

    spans = telemetry.take()
    assert len(spans) > 200
    texts = [text for span in spans for text in texts_of(span)]
    texts += [
        str(value)
        for name in ("http.client.request.duration", "http.client.active_requests")
        for point in telemetry.points(name)
        for value in point.attributes.values()
    ]
    forbidden = ["the-key", "there", "other/", "://", "Signature", SECRET, "test-key-id", CUSTOMER]
    assert not [text for text in texts for word in forbidden if word in text]


def texts_of(span: ReadableSpan) -> Iterator[str]:
    yield span.name
    yield str(span.status.description)
    for name, value in attributes(span).items():
        yield name
        yield str(value)
    for event in span.events:
        yield f"{event.name} {dict(event.attributes or {})}"
    for link in span.links:
        yield f"{dict(link.attributes or {})}"


# --- without the extra, and without an SDK ----------------------------------------------


def test_without_the_extra_the_error_has_the_install_line() -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "try: import careflow_storage.integrations.opentelemetry\n"
        "except ImportError as error: print(type(error).__name__, error.hint)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout == 'MissingExtraError pip install "careflow-storage[otel]"\n'


async def test_without_an_sdk_the_hooks_do_nothing(settings: StorageSettings) -> None:
    async with BackblazeStorage(settings, hooks=[OpenTelemetryHooks()]) as storage:
        await storage.upload_file("key", SMALL)
        assert await storage.get_file("key") == SMALL


@pytest.mark.parametrize("wrong", ["provider", True, TracerProvider], ids=repr)
def test_a_provider_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match="tracer_provider"):
        OpenTelemetryHooks(tracer_provider=wrong)
    with pytest.raises(InvalidInputError, match="meter_provider"):
        OpenTelemetryHooks(meter_provider=wrong)
