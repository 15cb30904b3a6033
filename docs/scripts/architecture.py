"""Draw docs/images/architecture.svg: the rooms of the package by floor, and what imports what.

The floors are those of the import-linter contract in pyproject.toml, the lines are the imports in
the code, down to the shared floors, which nearly every room imports. Run it after a change of
either: ``python docs/scripts/architecture.py``. With ``--check`` it draws nothing and fails when
the picture is out of date.
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
WIDTH, BOX, GAP, FLOOR, MARGIN = 1080, 44, 14, 84, 24
SHARED_FLOORS = 3

Edges = set[tuple[str, str]]


def floors() -> list[list[str]]:
    """Return the rooms of each floor, the highest first."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = config["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each["type"] == "layers")
    return [re.findall(r"\w+", layer) for layer in layers]


def imports(rooms: set[str]) -> Edges:
    """Return which room imports which, as the code says."""
    graph = grimp.build_graph(PACKAGE)
    edges: Edges = set()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            one, other = (name.split(".")[1:2] for name in (importer, imported))
            if one and other and one != other and {*one, *other} <= rooms:
                edges.add((one[0], other[0]))
    return edges


def size_of(room: str) -> tuple[int, int]:
    """Return how many files a room has, and how many lines."""
    place = ROOT / PACKAGE / room
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return len(files), sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def places(rows: list[list[str]]) -> dict[str, tuple[float, float, float]]:
    """Return left, top and width of each room's box."""
    found = {}
    for number, row in enumerate(rows):
        width = min(190.0, (WIDTH - 2 * MARGIN - GAP * (len(row) - 1)) / len(row))
        left = (WIDTH - width * len(row) - GAP * (len(row) - 1)) / 2
        for column, room in enumerate(row):
            found[room] = (left + column * (width + GAP), MARGIN + number * FLOOR, width)
    return found


def draw(rows: list[list[str]], edges: Edges) -> str:
    """Return the SVG. An arrow leaves the bottom of the importer, and ends on what it imports."""
    boxes = places(rows)
    shared = {room for row in rows[-SHARED_FLOORS:] for room in row}
    shown = {(one, other) for one, other in edges if other not in shared}
    top = MARGIN + FLOOR * (len(rows) - SHARED_FLOORS) - 18
    height = 2 * MARGIN + FLOOR * (len(rows) - 1) + BOX
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" role="img">',
        "<title>The rooms of careflow_storage, and what imports what</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    lines += [
        f'<rect x="{MARGIN}" y="{top}" width="{WIDTH - 2 * MARGIN}" height="{height - top - 8}" '
        'rx="10" fill="#f7f9fb" stroke="#33475b" stroke-opacity="0.25"/>',
        f'<text x="{MARGIN + 12}" y="{height - 16}" font-size="11" fill="#33475b">'
        "imported by nearly every room above</text>",
    ]
    for importer, imported in sorted(shown):
        (x1, y1, w1), (x2, y2, w2) = boxes[importer], boxes[imported]
        start, end = (x1 + w1 / 2, y1 + BOX), (x2 + w2 / 2, y2)
        bend = (start[1] + end[1]) / 2
        lines.append(
            f'<path d="M{start[0]:.0f} {start[1]:.0f} C{start[0]:.0f} {bend:.0f} '
            f'{end[0]:.0f} {bend:.0f} {end[0]:.0f} {end[1]:.0f}" fill="none" stroke="#7a8ca3" '
            'stroke-opacity="0.45"/>'
        )
    for room, (left, top, width) in boxes.items():
        files, length = size_of(room)
        about = f"{files} files, {length:,} lines" if files > 1 else f"{length:,} lines"
        private = room.startswith("_")
        fill, ink = ("#eef2f7", "#33475b") if private else ("#1f5fbf", "#ffffff")
        middle = left + width / 2
        lines += [
            f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{BOX}" rx="6" '
            f'fill="{fill}" stroke="#33475b" stroke-opacity="0.35"/>',
            f'<text x="{middle:.0f}" y="{top + 19:.0f}" text-anchor="middle" font-size="14" '
            f'fill="{ink}">{escape(room)}</text>',
            f'<text x="{middle:.0f}" y="{top + 35:.0f}" text-anchor="middle" font-size="10" '
            f'fill="{ink}">{about}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def without_sizes(picture: str) -> str:
    """Leave out how large the rooms are: that changes with every line of code."""
    return re.sub(r">[\d,]+ (?:files|lines)[^<]*<", "><", picture)


def main() -> int:
    """Draw it, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when the picture is out of date")
    check = parser.parse_args().check
    rows = floors()
    picture = draw(rows, imports({room for row in rows for room in row}))
    if check:
        before = PICTURE.read_text(encoding="utf-8") if PICTURE.exists() else ""
        if without_sizes(before) != without_sizes(picture):
            print("docs/images/architecture.svg is out of date: run docs/scripts/architecture.py")
            return 1
        return 0
    PICTURE.write_text(picture, encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)} is drawn.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
