"""The check of the built documentation site finds links that lead nowhere."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "scripts" / "site" / "built_site.py"
broken_links = runpy.run_path(str(SCRIPT))["broken_links"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site of two pages and a picture."""
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide" / "index.html").write_text('<h2 id="play">Play</h2>', encoding="utf-8")
    (tmp_path / "a b.png").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    "page",
    [
        '<a href="guide/#play">',
        '<a href="guide/index.html">',
        '<a href="#top"><p id="top">',
        '<img src="a%20b.png">',
        '<a href="https://www.backblaze.com/docs#nowhere">',
        '<a href="mailto:a@b.example">',
    ],
)
def test_a_link_that_leads_somewhere_is_none_of_them(site: Path, page: str) -> None:
    (site / "index.html").write_text(page, encoding="utf-8")
    assert broken_links(site) == []


@pytest.mark.parametrize(
    "link", ["guide/#record", "gone/", "#play", "images/a.png", "/elsewhere/", "../a.png"]
)
def test_a_link_that_leads_nowhere_is_named_with_its_page(site: Path, link: str) -> None:
    (site / "index.html").write_text(f'<a href="{link}"><img src="{link}">', encoding="utf-8")
    assert broken_links(site) == [f"index.html: {link}"]
