"""OpenTelemetry: spans and metrics of a storage. Extra: ``otel``.

::

    storage = BackblazeStorage(hooks=[OpenTelemetryHooks()])

Names follow the semantic conventions 1.44 for S3 clients and HTTP client metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from careflow_storage._version import __version__
from careflow_storage.errors import InvalidInputError, MissingExtraError
from careflow_storage.hooks import CallEvent, ConnectionsEvent, Hooks, RequestEvent

try:
    from opentelemetry import metrics, trace
    from opentelemetry.trace import SpanKind, StatusCode
except ImportError as error:
    raise MissingExtraError("otel") from error

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["OpenTelemetryHooks"]

_NAME: Final = "careflow_storage"
_SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
# What the conventions advise for durations, and powers of 4 from 1 KiB for sizes.
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_BYTES: Final = tuple(1024 * 4**power for power in range(12))
# The caller, or the other side of a web app's connection, does not want the result any more.
_CANCELLED: Final = "CancelledError"

_Value = str | int


class OpenTelemetryHooks(Hooks):
    """Spans and metrics of the calls and requests of a storage.

    **Spans.** ``careflow_storage.upload_file`` for each call of a public method, of kind INTERNAL,
    in the context of its caller. Below it ``S3.PutObject`` for each request, of kind CLIENT; a
    retry is a span of its own, with ``http.request.resend_count``. A call that raised and a
    request that failed have the status ERROR and ``error.type``; a cancelled one has
    ``error.type`` alone. There is no description: messages may contain keys.

    **Metrics.** ``http.client.request.duration``, ``http.client.request.body.size``,
    ``http.client.response.body.size``, ``http.client.active_requests`` and
    ``http.client.open_connections``.

    No attribute contains a key, a URL or a secret, unless ``record_keys`` is set.

    Args:
        tracer_provider: Default: the global one. The global providers may be set later.
        meter_provider: Default: the global one.
        record_keys: Whether the spans have ``aws.s3.key``. Keys may contain personal data.

    Raises:
        InvalidInputError: A provider is none.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        record_keys: bool = False,
    ) -> None:
        for name, provider, method in (
            ("tracer_provider", tracer_provider, "get_tracer"),
            ("meter_provider", meter_provider, "get_meter"),
        ):
            if provider is not None and not hasattr(type(provider), method):
                kind = type(provider).__name__
                raise InvalidInputError(f"{name} must have {method}(), unlike {kind}.")
        self.record_keys = record_keys
        self._tracer = trace.get_tracer(_NAME, __version__, tracer_provider, _SCHEMA_URL)
        meter = metrics.get_meter(_NAME, __version__, meter_provider, _SCHEMA_URL)
        self._duration = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._request_size = meter.create_histogram(
            "http.client.request.body.size",
            unit="By",
            description="Size of HTTP client request bodies.",
            explicit_bucket_boundaries_advisory=_BYTES,
        )
        self._response_size = meter.create_histogram(
            "http.client.response.body.size",
            unit="By",
            description="Size of HTTP client response bodies.",
            explicit_bucket_boundaries_advisory=_BYTES,
        )
        self._active = meter.create_up_down_counter(
            "http.client.active_requests",
            unit="{request}",
            description="Number of active HTTP requests.",
        )
        self._connections = meter.create_up_down_counter(
            "http.client.open_connections",
            unit="{connection}",
            description="Number of outbound HTTP connections that are currently active or idle.",
        )
        self._calls: WeakKeyDictionary[CallEvent, Span] = WeakKeyDictionary()
        self._requests: WeakKeyDictionary[RequestEvent, Span] = WeakKeyDictionary()

    def call_started(self, call: CallEvent) -> None:
        """Start the span of a call."""
        attributes: dict[str, _Value] = {}
        if call.bucket is not None:
            attributes["aws.s3.bucket"] = call.bucket
        if call.key is not None:
            attributes["aws.s3.key"] = call.key
        self._calls[call] = self._tracer.start_span(
            f"{_NAME}.{call.method}", self._context(call.parent), SpanKind.INTERNAL, attributes
        )

    def call_ended(self, call: CallEvent) -> None:
        """End the span of a call."""
        span = self._calls.get(call)
        if span is not None:
            if call.key is not None:
                span.set_attribute("aws.s3.key", call.key)
            _end(span, call.error_type)

    def request_sent(self, request: RequestEvent) -> None:
        """Start the span of a request, and count it as active."""
        self._active.add(1, _server(request) | {"http.request.method": request.http_method})
        self._requests[request] = self._tracer.start_span(
            f"S3.{request.operation}",
            self._context(request.call),
            SpanKind.CLIENT,
            _attributes(request),
        )

    def request_ended(self, request: RequestEvent) -> None:
        """End the span of a request, and record its duration and sizes."""
        self._active.add(-1, _server(request) | {"http.request.method": request.http_method})
        self._measure(request)
        span = self._requests.pop(request, None)
        if span is None:
            return
        for name, value in (
            ("http.response.status_code", request.status),
            ("aws.request_id", request.request_id),
            ("http.response.body.size", request.response_bytes),
        ):
            if value is not None:
                span.set_attribute(name, value)
        _end(span, request.error_type)

    def connections_changed(self, connections: ConnectionsEvent) -> None:
        """Count the open connections."""
        server = _server(connections)
        for state, change in (
            ("active", connections.active_change),
            ("idle", connections.idle_change),
        ):
            if change:
                self._connections.add(change, server | {"http.connection.state": state})

    def _context(self, call: CallEvent | None) -> Context | None:
        """Return the context of a span within ``call``; None for the current one."""
        span = self._calls.get(call) if call is not None else None
        return None if span is None else trace.set_span_in_context(span)

    def _measure(self, request: RequestEvent) -> None:
        attributes = _server(request) | {
            "http.request.method": request.http_method,
            "rpc.method": request.operation,
        }
        if request.status is not None:
            attributes["http.response.status_code"] = request.status
        if request.error_type is not None:
            attributes["error.type"] = request.error_type
        if request.duration is not None:
            self._duration.record(request.duration, attributes)
        if request.request_bytes is not None:
            self._request_size.record(request.request_bytes, attributes)
        if request.response_bytes is not None:
            self._response_size.record(request.response_bytes, attributes)


def _attributes(request: RequestEvent) -> dict[str, _Value]:
    attributes = _server(request) | {
        "rpc.system.name": "aws-api",
        "rpc.method": request.operation,
        "http.request.method": request.http_method,
    }
    if request.attempt > 1:
        attributes["http.request.resend_count"] = request.attempt - 1
    for name, value in (
        ("aws.s3.bucket", request.bucket),
        ("aws.s3.key", request.key),
        ("aws.s3.upload_id", request.upload_id),
        ("aws.s3.part_number", request.part_number),
        ("http.request.body.size", request.request_bytes),
    ):
        if value is not None:
            attributes[name] = value
    return attributes


def _server(event: RequestEvent | ConnectionsEvent) -> dict[str, _Value]:
    return {"server.address": event.server_address, "server.port": event.server_port}


def _end(span: Span, error_type: str | None) -> None:
    if error_type is not None:
        span.set_attribute("error.type", error_type)
        if error_type != _CANCELLED:
            span.set_status(StatusCode.ERROR)
    span.end()
