"""Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

PATIENCE_MS = 150_000
"""For each wait; a busy machine may need seconds for what takes milliseconds."""


@asynccontextmanager
async def launched(*arguments: str) -> AsyncIterator[Browser]:
    """Run Chromium; skip the test where it or Playwright is missing."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs the program chromium")
    pytest.importorskip("playwright", reason="needs the dependency group `browser`")
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        # Without a sandbox, since Chromium refuses to start one as root.
        browser = await playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", *arguments], timeout=PATIENCE_MS
        )
        try:
            yield browser
        finally:
            await browser.close()


async def listening(page: Page) -> None:
    """Return when Playwright's driver reports the events that are now expected of a page.

    The driver learns of them by a message. What happens on the page before that is not reported.
    """
    await page.evaluate("0")
