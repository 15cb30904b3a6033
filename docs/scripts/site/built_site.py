"""Finds the links of a built site that lead nowhere: pages, anchors, pictures, styles, scripts."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Another version of the site, where several are published.
_ELSEWHERE = ("404.html",)


def broken_links(folder: str | Path) -> list[str]:
    """Return a line for each broken link of a page: the page, and the link."""
    root = Path(folder).resolve()
    pages = {path: _Page(path) for path in sorted(root.rglob("*.html"))}
    return [
        f"{path.relative_to(root)}: {link}"
        for path, page in pages.items()
        if path.name not in _ELSEWHERE
        for link in sorted(page.links)
        if not _leads_somewhere(link, path, pages)
    ]


class _Page(HTMLParser):
    """The links of a page, and the anchors to which others may link."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {name for name in (found.get("id"), found.get("name")) if name}
        # A preconnect has a host without a path.
        if tag != "base" and found.get("rel") != "preconnect":
            self.links |= {link for link in (found.get("href"), found.get("src")) if link}


def _leads_somewhere(link: str, path: Path, pages: dict[Path, _Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return False
    anchor = unquote(parts.fragment)
    return not anchor or anchor == "__top" or target not in pages or anchor in pages[target].anchors
