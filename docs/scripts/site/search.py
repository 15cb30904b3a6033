"""Search the built site in Chromium, and report where the right page is not the first result.

    python docs/scripts/site/search.py SITE

``nox -s docs`` runs it where the program `chromium` is installed.
"""

from __future__ import annotations

import functools
import http.server
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

EXPECTED = {
    "2FA": "backblaze-account",
    "429": "memory-and-concurrency",
    "503": "b2-semantics",
    "celery": "workers",
    "checksum": "integrity",
    "CORS": "bucket-setup",
    "emulator": "testing",
    "fastapi": "web-apps",
    "firebase": "usage-and-cost",
    "lifecycle": "bucket-setup",
    "list files": "guide",
    "opentelemetry": "observability",
    "pandas": "fsspec",
    "presigned": "guide",
    "price": "usage-and-cost",
    "rename": "versions-and-copies",
    "restore": "versions-and-copies",
    "resume": "resume",
    "retry": "retries",
    "rotate key": "application-keys",
    "SignatureDoesNotMatch": "troubleshooting",
    "timeout": "retries",
    "twilio": "twilio",
    "uppy": "browser-uploads",
    "versions": "versions-and-copies",
}
"""What a reader types, and the page that should be first."""

_FIELD = "input.md-search__input"
_STATE = "() => document.querySelector('.md-search-result__meta').innerText"
# The index is made after the first key.
_SECONDS = 120


def main() -> int:
    """Print each search that finds another page first; the exit code is 1 if there is any."""
    with served(sys.argv[1]) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url)
        page.click(_FIELD)
        wrong = {
            query: found
            for query, right in EXPECTED.items()
            if not (found := first(page, query)).startswith(f"/{right}/")
        }
        browser.close()
    for query, found in wrong.items():
        print(f"{query!r} finds {found or 'nothing'}, not {EXPECTED[query]}")
    print(f"{len(EXPECTED) - len(wrong)} of {len(EXPECTED)} searches find the right page first.")
    return 1 if wrong else 0


def first(page: Page, query: str) -> str:
    """Return the path of the first result; empty if there is none."""
    for text, state in (("", "Type to"), (query, "matching")):
        page.fill(_FIELD, text)
        # The theme searches at the end of a key press.
        page.press(_FIELD, "Shift")
        page.wait_for_function(f"/{state}/.test(({_STATE})())", timeout=1000 * _SECONDS)
    link = page.query_selector(".md-search-result__item > a")
    return "" if link is None else str(link.evaluate("(link) => new URL(link.href).pathname"))


@contextmanager
def served(folder: str) -> Iterator[str]:
    """Serve a folder on this machine; yield the URL."""
    handler = functools.partial(_Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base
        """Log nothing."""


if __name__ == "__main__":
    sys.exit(main())
