"""Draw docs/images/upload-trace.svg: the spans of one upload, as OpenTelemetry records them.

A file of 20 MB is uploaded to the B2 emulator, which refuses one part with 503. Run it after a
change of the spans: ``python docs/scripts/upload_trace.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from html import escape
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from careflow_storage import BackblazeStorage
from careflow_storage.integrations.opentelemetry import OpenTelemetryHooks
from careflow_storage.testing import B2Server

PICTURE = Path(__file__).resolve().parents[1] / "images" / "upload-trace.svg"
WIDTH, NAMES, ROW, MARGIN, AXIS = 1080, 330, 30, 24, 40
SHOWN = (
    ("aws.s3.part_number", "part {}"),
    ("http.response.status_code", "{}"),
    ("http.request.resend_count", "resend {}"),
    ("error.type", "{}"),
)


async def record() -> list[ReadableSpan]:
    """Upload a file; return its spans in the order of their beginnings."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    hooks = OpenTelemetryHooks(tracer_provider=provider)
    with B2Server() as server:
        settings = server.settings(retry_base_delay=0.05, retry_max_delay=0.05)
        async with BackblazeStorage(settings, hooks=[hooks]) as storage:
            await storage.upload_file("warm-up", bytes(20_000_000))
            exporter.clear()
            server.faults.next("UploadPart", status=503, code="SlowDown")
            await storage.upload_recording("CA123", bytes(20_000_000), "call.wav")
    return sorted(exporter.get_finished_spans(), key=lambda span: span.start_time or 0)


def draw(spans: Sequence[ReadableSpan]) -> str:
    """Return the picture: a row for each span, on a common axis of milliseconds."""
    begin = min(span.start_time or 0 for span in spans)
    end = max(span.end_time or 0 for span in spans)
    step = _step((end - begin) / 1e6)
    scale = (WIDTH - NAMES - 2 * MARGIN) / ((end - begin) / 1e6)
    height = 2 * MARGIN + AXIS + ROW * len(spans)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="13" role="img">',
        "<title>The trace of one upload in parts</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    left, bottom = MARGIN + NAMES, height - MARGIN - AXIS / 2
    tick = 0.0
    while tick <= (end - begin) / 1e6:
        x = left + tick * scale
        parts.append(
            f'<line x1="{x:.1f}" y1="{MARGIN}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="#e2e8f0"/>'
            f'<text x="{x:.1f}" y="{bottom + 18:.1f}" fill="#475569" text-anchor="middle">'
            f"{tick:g} ms</text>"
        )
        tick += step
    for row, span in enumerate(spans):
        parts.append(_row(span, MARGIN + row * ROW, begin, left, scale))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _step(length: float) -> float:
    return next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10_000) if length / step <= 8)


def _row(span: ReadableSpan, top: float, begin: int, left: float, scale: float) -> str:
    start, stop = span.start_time or begin, span.end_time or begin
    x, width = left + (start - begin) / 1e6 * scale, max(2.0, (stop - start) / 1e6 * scale)
    failed = span.status.status_code is StatusCode.ERROR
    color = "#dc2626" if failed else "#1d4ed8" if span.parent is None else "#60a5fa"
    indent = 0 if span.parent is None else 18
    found = dict(span.attributes or {})
    label = ", ".join(text.format(found[name]) for name, text in SHOWN if name in found)
    inside = x + width > WIDTH - MARGIN - 7.5 * len(label)
    place = (x + width - 6, "end", "#0f172a") if inside else (x + width + 6, "start", "#334155")
    return (
        f'<text x="{MARGIN + indent}" y="{top + 18}" fill="#0f172a">{escape(span.name)}</text>'
        f'<rect x="{x:.1f}" y="{top + 4}" width="{width:.1f}" height="{ROW - 8}" rx="3" '
        f'fill="{color}"/>'
        f'<text x="{place[0]:.1f}" y="{top + 18}" text-anchor="{place[1]}" fill="{place[2]}">'
        f"{escape(label)}</text>"
    )


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(draw(asyncio.run(record())), encoding="utf-8")
    print(f"{PICTURE.name} is drawn.")


if __name__ == "__main__":
    main()
