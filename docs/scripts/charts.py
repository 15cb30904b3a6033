"""Draw charts from the numbers in benchmarks/published.

    python docs/scripts/charts.py                          # all, into docs/images
    python docs/scripts/charts.py upload-tls scaling       # these
    python docs/scripts/charts.py --read DIR --to DIR      # those of a run of your own

``python -m benchmarks --charts DIR`` and its relatives write the numbers.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import svg

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = ROOT / "benchmarks" / "published"
IMAGES = ROOT / "docs" / "images"
WIDTH, MARGIN, GAP, ROW, HEAD, COLUMNS = 960, 24, 18, 25, 92, 4
# The width of a character, as a part of the font size, in the widest of the fonts.
LETTER, DIGIT = 0.62, 0.64
_COLORS = {"base": "accent", "ours": "soft", "peer": "gray"}
_LINES = {"base": "line-accent", "peer": "line-gray"}
_DASHES = ("", "7 4", "2 4")


def bars(chart: dict[str, Any]) -> str:
    """Return horizontal bars: the rows of all panels have the same labels, written once."""
    rows = {bar["label"]: bar for panel in chart["panels"] for bar in panel["bars"]}
    left = MARGIN + 12 + 13 * LETTER * max(map(len, rows))
    parts, top = _title(chart), HEAD
    for start in range(0, len(chart["panels"]), COLUMNS):
        panels = chart["panels"][start : start + COLUMNS]
        for number, bar in enumerate(rows.values()):
            y, bold = top + number * ROW + 17, _stands_out(bar, chart["panels"][0])
            parts.append(svg.text(left - 12, y, bar["label"], anchor="end", bold=bold))
        width = (WIDTH - left - MARGIN - GAP * (len(panels) - 1)) / len(panels)
        for place, panel in enumerate(panels):
            parts += _panel(panel, list(rows), left + place * (width + GAP), top, width)
        top += len(rows) * ROW + 40
    return svg.document(WIDTH, top - 40 + MARGIN - 6, chart["title"], parts)


def _title(chart: dict[str, Any]) -> list[str]:
    return [
        svg.text(MARGIN, 31, chart["title"], size=15, bold=True),
        svg.text(MARGIN, 51, chart["note"], "muted", size=12),
    ]


def _panel(
    panel: dict[str, Any], rows: list[str], left: float, top: float, width: float
) -> list[str]:
    """Draw one quantity. The longest bar leaves room for the longest text behind a bar."""
    written = [_written(panel, bar) for bar in panel["bars"]]
    room = 16 + 12 * DIGIT * max(len(value) + len(times) for value, times in written)
    longest = max(bar["value"] for bar in panel["bars"]) or 1
    parts = [
        svg.text(left, top - 12, panel["title"], "muted", size=12, bold=True),
        svg.line(left, top, left, top + len(rows) * ROW, "edge"),
    ]
    for bar, (value, times) in zip(panel["bars"], written, strict=True):
        y = top + rows.index(bar["label"]) * ROW
        length = max(1.0, (width - room) * bar["value"] / longest)
        parts.append(svg.box(left, y + 4, length, ROW - 8, _COLORS[bar["role"]], radius=2))
        x, bold = left + length + 6, _stands_out(bar, panel)
        parts.append(svg.text(x, y + 17, value, size=12, bold=bold))
        if times:
            x += 12 * DIGIT * len(value) + 6
            parts.append(svg.text(x, y + 17, times, "muted", size=12))
    return parts


def _stands_out(bar: dict[str, Any], panel: dict[str, Any]) -> bool:
    return bar["role"] == "base" and any(each["role"] != "base" for each in panel["bars"])


def _written(panel: dict[str, Any], bar: dict[str, Any]) -> tuple[str, str]:
    unit = f" {panel['unit']}" if panel.get("unit") else ""
    times = f"{bar['times']:.2f}x" if bar.get("times") is not None else ""
    return f"{bar['value']:,.{panel['digits']}f}{unit}", times


def lines(chart: dict[str, Any]) -> str:
    """Return lines in two columns of panels, both scales logarithmic."""
    panels = chart["panels"]
    width, plot = (WIDTH - 2 * MARGIN - 40) / 2, 190
    block = plot + 116
    parts = _title(chart)
    for number, panel in enumerate(panels):
        left = MARGIN + (number % 2) * (width + 40)
        parts += _plot(panel, left, 72 + number // 2 * block, width, plot)
    height = 72 + -(-len(panels) // 2) * block + 8
    return svg.document(WIDTH, height, chart["title"], parts)


def _plot(panel: dict[str, Any], left: float, top: float, width: float, plot: float) -> list[str]:
    series = panel["series"]
    parts = [svg.text(left, top + 12, panel["title"], size=13, bold=True)]
    clients = {one["label"].partition(", ")[0]: _LINES[one["role"]] for one in series}
    calls = list(dict.fromkeys(one["label"].partition(", ")[2] for one in series))
    parts += _legend(left, top + 32, [(name, color, "") for name, color in clients.items()])
    if len(calls) > 1:
        kinds = [(call, "edge", _DASHES[number]) for number, call in enumerate(calls)]
        parts += _legend(left, top + 50, kinds)
    left, width, top = left + 56, width - 64, top + 68
    points = [point for one in series for point in one["points"]]
    x_low, x_high = (math.log10(end(x for x, _ in points)) for end in (min, max))
    y_low = math.floor(math.log10(min(y for _, y in points)))
    y_high = max(y_low + 2, math.ceil(math.log10(max(y for _, y in points))))
    for power in range(y_low, y_high + 1):
        y = top + plot - plot * (power - y_low) / (y_high - y_low)
        parts.append(svg.line(left, y, left + width, y))
        parts.append(svg.text(left - 8, y + 4, f"{10**power:,}", "muted", size=11, anchor="end"))

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + 8 + (width - 24) * (math.log10(x) - x_low) / (x_high - x_low),
            top + plot - plot * (math.log10(y) - y_low) / (y_high - y_low),
        )

    for value in dict.fromkeys(x for x, _ in points):
        x, _ = place(value, 10**y_low)
        shown = svg.text(x, top + plot + 18, _short(value), "muted", size=11, anchor="middle")
        parts.append(shown)
    parts.append(
        svg.text(left + width / 2, top + plot + 35, panel["x"], "muted", size=12, anchor="middle")
    )
    for number, one in enumerate(series):
        places = [place(*point) for point in one["points"]]
        curve = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        color = _LINES[one["role"]]
        parts.append(svg.path(curve, color, width=2, dashes=_DASHES[number // 2]))
        fill = "accent" if one["role"] == "base" else "gray"
        parts += [f'<circle class="{fill}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
    return parts


def _legend(x: float, y: float, entries: list[tuple[str, str, str]]) -> list[str]:
    """Draw names behind samples of their lines; of each, its name, color and dashes."""
    parts = []
    for name, color, dashes in entries:
        parts.append(svg.path(f"M{x:.1f} {y - 4:.1f} h26", color, width=2, dashes=dashes))
        parts.append(svg.text(x + 32, y, name, "muted", size=12))
        x += 52 + 12 * LETTER * len(name)
    return parts


def _short(value: float) -> str:
    """Return a round number as people write it; sizes are powers of 1024."""
    for unit, factor in (("Mi", 1024**2), ("Ki", 1024)):
        if value >= factor and value % factor == 0:
            return f"{value / factor:,.0f} {unit}B"
    return f"{value:,.0f}"


def draw(name: str, numbers: Path, images: Path) -> Path:
    """Draw one chart from its file of numbers."""
    chart = json.loads((numbers / f"{name}.json").read_text(encoding="utf-8"))
    drawn = lines(chart) if "series" in chart["panels"][0] else bars(chart)
    path = images / f"{name}.svg"
    path.write_text(drawn, encoding="utf-8")
    return path


def main() -> None:
    """Draw the chosen charts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="all by default")
    parser.add_argument("--read", type=Path, default=NUMBERS, metavar="DIR", help="the numbers")
    parser.add_argument("--to", type=Path, default=IMAGES, metavar="DIR", help="the pictures")
    chosen = parser.parse_args()
    names = chosen.names or sorted(file.stem for file in chosen.read.glob("*.json"))
    for name in names:
        print(draw(name, chosen.read, chosen.to))


if __name__ == "__main__":
    main()
