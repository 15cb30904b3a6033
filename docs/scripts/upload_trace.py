"""Draw docs/images/upload-trace.svg: the spans of one upload, as OpenTelemetry records them.

A file of 20 MB is uploaded to the B2 emulator, which refuses one part with 503. The recorded spans
are in upload_trace.json; after a change of the spans, ``--record`` records them again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import svg
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from careflow_storage import BackblazeStorage
from careflow_storage.integrations.opentelemetry import OpenTelemetryHooks
from careflow_storage.testing import B2Server

PICTURE = Path(__file__).resolve().parents[1] / "images" / "upload-trace.svg"
RECORDED = Path(__file__).with_name("upload_trace.json")
WIDTH, NAMES, ROW, MARGIN, AXIS = 960, 280, 30, 24, 40
SHOWN = (
    ("aws.s3.part_number", "part {}"),
    ("http.response.status_code", "{}"),
    ("http.request.resend_count", "resend {}"),
    ("error.type", "{}"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What the picture shows of one span; times in milliseconds."""

    name: str
    label: str
    start: int
    stop: int
    failed: bool
    is_child: bool


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


def rows(spans: Sequence[ReadableSpan]) -> list[Row]:
    """Return what the picture shows of the spans, in milliseconds from the first one's begin."""
    begin = min(span.start_time or 0 for span in spans)
    found = []
    for span in spans:
        start, stop = (((time or begin) - begin) / 1e6 for time in (span.start_time, span.end_time))
        values = dict(span.attributes or {})
        label = ", ".join(text.format(values[name]) for name, text in SHOWN if name in values)
        failed = span.status.status_code is StatusCode.ERROR
        found.append(
            Row(span.name, label, round(start), round(stop), failed, span.parent is not None)
        )
    return found


def draw(found: Sequence[Row]) -> str:
    """Return the picture: a row for each span, on a common axis of milliseconds."""
    length = max(row.stop for row in found)
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10_000) if length / step <= 8)
    left, height = MARGIN + NAMES, 2 * MARGIN + AXIS + ROW * len(found)
    scale, bottom = (WIDTH - left - MARGIN) / length, height - MARGIN - AXIS / 2
    parts = []
    for tick in range(0, length + 1, step):
        x = left + tick * scale
        parts.append(svg.line(x, MARGIN, x, bottom))
        parts.append(svg.text(x, bottom + 18, f"{tick} ms", "muted", size=12, anchor="middle"))
    for number, row in enumerate(found):
        parts += _row(row, MARGIN + number * ROW, left, scale)
    return svg.document(WIDTH, height, "The trace of one upload in parts", parts)


def _row(row: Row, top: float, left: float, scale: float) -> list[str]:
    x, width = left + row.start * scale, max(2.0, (row.stop - row.start) * scale)
    color = "bad" if row.failed else "soft" if row.is_child else "accent"
    inside = x + width + 12 + 7.5 * len(row.label) > WIDTH - MARGIN
    place, anchor = (x - 6, "end") if inside else (x + width + 6, "start")
    return [
        svg.text(MARGIN + 18 * row.is_child, top + 18, row.name, bold=not row.is_child),
        svg.box(x, top + 4, width, ROW - 9, color),
        svg.text(place, top + 18, row.label, "muted", size=12, anchor=anchor),
    ]


def kinds(found: Sequence[Row]) -> list[tuple[str, str]]:
    """Return what does not differ from run to run: names and attributes, but of any part."""
    return sorted((row.name, re.sub(r"part \d+", "part", row.label)) for row in found)


def main() -> int:
    """Draw the picture, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--record", action="store_true", help="upload again, and draw that")
    parser.add_argument("--check", action="store_true", help="fail if an upload has other spans")
    chosen = parser.parse_args()
    kept = [Row(**row) for row in json.loads(RECORDED.read_text(encoding="utf-8"))]
    if chosen.record or chosen.check:
        new = rows(asyncio.run(record()))
        if chosen.check and kinds(new) != kinds(kept):
            print("The spans have changed: run docs/scripts/upload_trace.py --record")
            return 1
        if chosen.record:
            kept = new
            text = json.dumps([asdict(row) for row in kept], indent=1)
            RECORDED.write_text(f"{text}\n", encoding="utf-8")
    if not chosen.check:
        PICTURE.write_text(draw(kept), encoding="utf-8")
        print(PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
