"""Draw docs/images/architecture.svg: the packages and modules by layer, and their imports.

The layers are those of the import-linter contract in pyproject.toml, and the lines are the imports
in the code. A line is left out where a path of other lines implies it, and below the shared
layers, which nearly every box imports. Run it after a change of either:
``python docs/scripts/architecture.py``. With ``--check`` it draws nothing, and fails if the picture
is out of date.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "careflow_storage"
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
WIDTH, BOX, GAP, LAYER, MARGIN = 1080, 44, 14, 84, 24
SHARED_LAYERS = 3
LEFT_OUT = {"__main__"}
SUBJECTS = {
    "integrations": "web frameworks",
    "browser": "uploads from pages",
    "media": "formats, waveforms",
    "jobs": "bulk work",
    "cli": "the command",
    "local": "embedded S3 server",
    "testing": "B2 emulator, fault proxy",
    "outbox": "durable queue",
    "storage": "BackblazeStorage",
    "admin": "CORS, lifecycle, versions",
    "keys": "application keys",
    "usage": "usage and cost",
    "doctor": "diagnosis",
    "migrate": "migration from AWS S3",
    "_method_call": "deadline, error context",
    "_runtime": "open and close",
    "_transfer": "uploads, downloads, copies",
    "_s3": "S3 requests and responses",
    "_http": "HTTP/1.1 client",
}

Edges = set[tuple[str, str]]


def layers() -> list[list[str]]:
    """Return the boxes of each layer, the highest first."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = config["tool"]["importlinter"]["contracts"]
    (found,) = (each["layers"] for each in contracts if each["type"] == "layers")
    rows = [re.findall(r"\w+", layer) for layer in found]
    shown = [[name for name in row if name not in LEFT_OUT] for row in rows]
    return [row for row in shown if row]


def imports(boxes: set[str]) -> Edges:
    """Return pairs of an importing and an imported box."""
    graph = grimp.build_graph(PACKAGE)
    edges: Edges = set()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            one, other = (name.split(".")[1:2] for name in (importer, imported))
            if one and other and one != other and {*one, *other} <= boxes:
                edges.add((one[0], other[0]))
    return edges


def without_implied(edges: Edges) -> Edges:
    """Leave out each edge that a path of other edges implies."""

    def reaches(start: str, end: str, skipped: tuple[str, str]) -> bool:
        following = [b for a, b in edges if a == start and (a, b) != skipped]
        return end in following or any(reaches(each, end, skipped) for each in following)

    return {edge for edge in edges if not reaches(*edge, edge)}


def places(rows: list[list[str]]) -> dict[str, tuple[float, float, float]]:
    """Return left, top and width of each box."""
    found = {}
    for number, row in enumerate(rows):
        room = WIDTH - 4 * MARGIN
        width = min(190.0, (room - GAP * (len(row) - 1)) / len(row))
        left = (WIDTH - width * len(row) - GAP * (len(row) - 1)) / 2
        below = 28 if number >= len(rows) - SHARED_LAYERS else 0
        for column, name in enumerate(row):
            top = MARGIN + number * LAYER + below
            found[name] = (left + column * (width + GAP), top, width)
    return found


def draw(rows: list[list[str]], edges: Edges) -> str:
    """Return the SVG. A line leaves the bottom of the importer and ends on the imported box."""
    boxes = places(rows)
    shared = {name for row in rows[-SHARED_LAYERS:] for name in row}
    shown = without_implied({(one, other) for one, other in edges if other not in shared})
    top = MARGIN + LAYER * (len(rows) - SHARED_LAYERS) - 10
    height = 2 * MARGIN + LAYER * (len(rows) - 1) + BOX + 28
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" role="img">',
        f"<title>The packages and modules of {PACKAGE}, and their imports</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<rect x="{MARGIN}" y="{top}" width="{WIDTH - 2 * MARGIN}" height="{height - top - 12}" '
        'rx="10" fill="#f7f9fb" stroke="#33475b" stroke-opacity="0.25"/>',
        f'<text x="{MARGIN + 24}" y="{top + 22}" font-size="12" fill="#33475b">'
        "shared: nearly every box above imports these</text>",
    ]
    for importer, imported in sorted(shown):
        (x1, y1, w1), (x2, y2, w2) = boxes[importer], boxes[imported]
        same_layer = y1 == y2
        start = (x1 + w1 / 2, y1 + (0 if same_layer else BOX))
        end = (x2 + w2 / 2, y2)
        bend = y1 - 30 if same_layer else (start[1] + end[1]) / 2
        lines.append(
            f'<path d="M{start[0]:.0f} {start[1]:.0f} C{start[0]:.0f} {bend:.0f} '
            f'{end[0]:.0f} {bend:.0f} {end[0]:.0f} {end[1]:.0f}" fill="none" stroke="#7a8ca3" '
            'stroke-width="1.4" stroke-opacity="0.7"/>'
        )
    for name, (left, y, width) in boxes.items():
        fill, ink = ("#eef2f7", "#33475b") if name.startswith("_") else ("#1f5fbf", "#ffffff")
        subject = SUBJECTS.get(name, "")
        middle = left + width / 2
        # About 0.6 of the font size per character; a long name in a narrow box is written smaller.
        size = min(14, int((width - 8) / (0.6 * len(name))))
        lines += [
            f'<rect x="{left:.0f}" y="{y:.0f}" width="{width:.0f}" height="{BOX}" rx="6" '
            f'fill="{fill}" stroke="#33475b" stroke-opacity="0.35"/>',
            f'<text x="{middle:.0f}" y="{y + (19 if subject else 27):.0f}" text-anchor="middle" '
            f'font-size="{size}" fill="{ink}">{escape(name)}</text>',
        ]
        if subject:
            lines.append(
                f'<text x="{middle:.0f}" y="{y + 35:.0f}" text-anchor="middle" '
                f'font-size="11" fill="{ink}">{escape(subject)}</text>'
            )
    return "\n".join([*lines, "</svg>", ""])


def main() -> int:
    """Draw the picture, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the picture is out of date")
    check = parser.parse_args().check
    rows = layers()
    picture = draw(rows, imports({name for row in rows for name in row}))
    if check:
        before = PICTURE.read_text(encoding="utf-8") if PICTURE.exists() else ""
        if before != picture:
            print("docs/images/architecture.svg is out of date: run docs/scripts/architecture.py")
            return 1
        return 0
    PICTURE.write_text(picture, encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)} is drawn.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
