"""The pictures of README and docs: each has a script that makes it, and a page that shows it."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
SCRIPTS = ROOT / "docs" / "scripts"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FILES = sorted(path.name for path in IMAGES.iterdir())
LARGEST = 150_000

_MARKDOWN = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")
_HTML = re.compile(r"<img\b[^>]*>")


def shown() -> list[tuple[Path, str, str]]:
    """Page, picture and alternative text of every picture."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for alternative, target in _MARKDOWN.findall(text):
            found.append((page, target, alternative))
        for tag in _HTML.findall(text):
            attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
            found.append((page, attributes["src"], attributes.get("alt", "")))
    return found


def test_each_picture_has_one_script_that_makes_it() -> None:
    made_by = runpy.run_path(str(SCRIPTS / "pictures.py"))["MADE_BY"]
    assert sorted(chain.from_iterable(made_by.values())) == FILES
    assert all((SCRIPTS / script).is_file() for script in made_by)


def test_each_picture_is_shown_and_each_shown_picture_exists() -> None:
    targets = {(page.parent / target).resolve() for page, target, _ in shown()}
    assert {path.name for path in targets} == set(FILES)
    assert all(path.parent == IMAGES for path in targets)


def test_each_picture_has_an_alternative_text() -> None:
    assert [(page.name, target) for page, target, text in shown() if len(text.split()) < 3] == []


@pytest.mark.parametrize("name", FILES)
def test_a_picture_is_small_and_whole(name: str) -> None:
    path = IMAGES / name
    assert path.stat().st_size < LARGEST
    if path.suffix == ".svg":
        drawn = ElementTree.fromstring(path.read_text("utf-8"))  # noqa: S314 - our own file
        assert drawn.tag.endswith("svg")
    else:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_charts_show_the_published_numbers(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, SCRIPTS / "charts.py", "--to", tmp_path], check=True, capture_output=True
    )
    drawn = sorted(tmp_path.iterdir())
    assert len(drawn) == len(list((ROOT / "benchmarks" / "published").iterdir()))
    for path in drawn:
        assert path.read_text(encoding="utf-8") == (IMAGES / path.name).read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_drawn_trace_has_the_spans_of_an_upload() -> None:
    command = [sys.executable, str(SCRIPTS / "upload_trace.py"), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
