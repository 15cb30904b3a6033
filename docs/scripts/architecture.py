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
from pathlib import Path

import grimp
import svg

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "careflow_storage"
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
WIDTH, BOX, GAP, LAYER, MARGIN = 960, 44, 12, 84, 24
# The shared layers are drawn in lines of at most seven boxes, closer together.
SHARED_LAYERS, IN_A_LINE, LINE, SHARED_HEAD = 3, 7, 54, 36
LEFT_OUT = {"__main__"}
SUBJECTS = {
    "integrations": "web, workers, traces, fsspec",
    "browser": "web uploads",
    "media": "waveforms",
    "jobs": "bulk work",
    "cli": "the command",
    "local": "S3 server",
    "testing": "B2 emulator",
    "outbox": "durable queue",
    "storage": "BackblazeStorage",
    "admin": "CORS, lifecycle, versions",
    "keys": "application keys",
    "usage": "usage and cost",
    "doctor": "diagnosis",
    "migrate": "from AWS S3",
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
    top = float(MARGIN)
    for number, row in enumerate(rows):
        shared = number >= len(rows) - SHARED_LAYERS
        if number == len(rows) - SHARED_LAYERS:
            top += SHARED_HEAD
        for start in range(0, len(row), IN_A_LINE):
            line = row[start : start + IN_A_LINE]
            room = WIDTH - 4 * MARGIN
            columns = IN_A_LINE if shared else len(line)
            width = min(190.0, (room - GAP * (columns - 1)) / columns)
            left = (WIDTH - width * columns - GAP * (columns - 1)) / 2
            for column, name in enumerate(line):
                found[name] = (left + column * (width + GAP), top, width)
            top += LINE if shared else LAYER
    return found


def draw(rows: list[list[str]], edges: Edges) -> str:
    """Return the SVG. A line leaves the bottom of the importer and ends on the imported box."""
    boxes = places(rows)
    shared = [name for row in rows[-SHARED_LAYERS:] for name in row]
    shown = without_implied({(one, other) for one, other in edges if other not in shared})
    top = boxes[shared[0]][1] - SHARED_HEAD - 6
    height = max(y for _, y, _ in boxes.values()) + BOX + 2 * MARGIN
    parts = [
        svg.box(MARGIN, top, WIDTH - 2 * MARGIN, height - top - MARGIN, "panel", radius=8),
        svg.text(
            MARGIN * 2, top + 24, "shared: nearly every box above imports these", "muted", size=12
        ),
    ]
    for importer, imported in sorted(shown):
        (x1, y1, w1), (x2, y2, w2) = boxes[importer], boxes[imported]
        same_layer = y1 == y2
        start = (x1 + w1 / 2, y1 + (0 if same_layer else BOX))
        end = (x2 + w2 / 2, y2)
        bend = y1 - 30 if same_layer else (start[1] + end[1]) / 2
        curve = (
            f"M{start[0]:.0f} {start[1]:.0f} C{start[0]:.0f} {bend:.0f} "
            f"{end[0]:.0f} {bend:.0f} {end[0]:.0f} {end[1]:.0f}"
        )
        parts.append(svg.path(curve, "edge", width=1.3))
    for name, place in boxes.items():
        parts += _box(name, *place)
    title = f"The packages and modules of {PACKAGE}, and their imports"
    return svg.document(WIDTH, height, title, parts)


def _box(name: str, left: float, top: float, width: float) -> list[str]:
    """Draw a public name in color, a private one in gray."""
    fill, ink = ("panel", "ink") if name.startswith("_") else ("accent", "on-accent")
    subject, middle = SUBJECTS.get(name, ""), left + width / 2
    # A long name in a narrow box is written smaller.
    size = min(14.0, (width - 12) / (0.62 * len(name)))
    parts = [
        svg.box(left, top, width, BOX, fill, radius=6),
        svg.text(middle, top + (19 if subject else 27), name, ink, size=size, anchor="middle"),
    ]
    if subject:
        size = min(11.0, (width - 8) / (0.6 * len(subject)))
        parts.append(svg.text(middle, top + 35, subject, ink, size=size, anchor="middle"))
    return parts


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
