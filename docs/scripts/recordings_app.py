"""Photograph the example app in Chromium, as ``careflow-storage demo --web`` serves it.

    python docs/scripts/recordings_app.py                      # all
    python docs/scripts/recordings_app.py recordings-app-phone

The recordings, their times and the page's clock are made up, and the microphone plays a file. A
picture that looks as before keeps its bytes. Needs the program ``chromium``.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import voices
from PIL import Image, ImageChops
from playwright.async_api import async_playwright

from careflow_storage import BackblazeStorage
from careflow_storage.local import LocalServer

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, Route

IMAGES = Path(__file__).resolve().parents[1] / "images"
NOW = datetime(2026, 11, 23, 9, 41, tzinfo=UTC)
# A picture looks the same if no more of its pixels differ: the bars of a microphone do.
SAME = 0.01
TIMEOUT_MS = 120_000

DRAWN = """() => [...document.querySelectorAll(".row")].every((row) =>
  row.getBoundingClientRect().top > innerHeight ||
  /\\d/.test(row.querySelector(".row-duration").textContent)
)"""


@dataclass(frozen=True, slots=True)
class Call:
    """A recording in the list."""

    call: str
    file: str
    age: timedelta
    seconds: float
    deleted: bool = False


CALLS = (
    Call("CA-20318", "intake.webm", timedelta(minutes=18), 94),
    Call("CA-20318", "callback-with-dr-holm.mp3", timedelta(hours=2), 341),
    Call("Follow-up Mrs Lindqvist", "follow-up.mp3", timedelta(days=3), 127),
    Call("CA-20102", "voice-memo.m4a", timedelta(days=4), 31),
    Call("CA-20102", "consultation.mp3", timedelta(days=25), 612),
    Call("CA-20102", "wrong-number.mp3", timedelta(days=25), 48, deleted=True),
    Call("CA-20318", "silence.mp3", timedelta(days=1), 20, deleted=True),
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A size of the window, and what the page shows in it."""

    width: int
    height: int
    dark: bool
    view: str = "recordings"
    records: bool = False
    scrolled: bool = False
    scale: float = 1.5


PICTURES = {
    "recordings-app-tablet": Picture(834, 1060, dark=False),
    "recordings-app-phone": Picture(390, 844, dark=True, scrolled=True),
    "recordings-app-storage": Picture(1280, 720, dark=True, view="usage"),
    # The last, since its recording would be in the lists of the others.
    "recordings-app": Picture(1280, 760, dark=False, records=True),
}


async def store(settings: Any) -> None:
    """Upload the made-up recordings, and delete some of them."""
    async with BackblazeStorage(settings) as storage:
        for number, each in enumerate(CALLS):
            made = int((NOW - each.age).timestamp() * 1000)
            body = await asyncio.to_thread(voices.encoded, each.file, each.seconds, number)
            key = f"recordings/anna.{each.call}/{made}-{each.file}"
            await storage.upload_file(key, body)
            if each.deleted:
                await storage.delete_file(key)


@asynccontextmanager
async def demo(folder: Path) -> AsyncIterator[str]:
    """Run ``demo --web`` on what is stored in this folder; yield the link of the user anna."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "careflow_storage", "demo", "--web", "--json"),
        *("--data-dir", str(folder)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        if process.stdout is not None:
            yield json.loads(await process.stdout.readline())["links"]["anna"]
    finally:
        process.terminate()
        await process.wait()


async def photograph(browser: Browser, link: str, picture: Picture) -> bytes:
    """Return a PNG of the page."""
    context = await browser.new_context(
        viewport={"width": picture.width, "height": picture.height},
        device_scale_factor=picture.scale,
        color_scheme="dark" if picture.dark else "light",
        reduced_motion="reduce",
        permissions=["microphone"],
        locale="en-GB",
        timezone_id="UTC",
    )
    context.set_default_timeout(TIMEOUT_MS)
    page = await context.new_page()
    await page.clock.set_fixed_time(NOW)
    await page.route("**/api/usage", in_november)
    await page.goto(link)
    await page.wait_for_selector(".row-duration")
    if picture.view != "recordings":
        await page.click(f".tab[data-view={picture.view}]")
        await page.wait_for_selector(f"#view[aria-busy=false] .{picture.view}")
    else:
        await waveforms(page)
        if picture.records:
            await page.fill("#call", "CA-20318")
            await page.click("#record")
            await until(page, "#recorder-time", "0:03")
        if picture.scrolled:
            await page.evaluate("document.querySelector('.tabs').scrollIntoView()")
            await page.evaluate("scrollBy(0, -120)")
        await page.locator(".play").first.click()
        await seek(page, 0.4)
        await until(page, ".row-position", "0:39")
    shot = await page.screenshot()
    await context.close()
    return shot


async def waveforms(page: Page) -> None:
    """Wait for those of the rows in the window."""
    await page.wait_for_function(DRAWN)


async def seek(page: Page, part: float) -> None:
    """Let the first recording go on from there."""
    wave = page.locator(".wave").first
    box = await wave.bounding_box()
    if box is not None:
        await wave.click(position={"x": part * box["width"], "y": box["height"] / 2})


async def until(page: Page, selector: str, shown: str) -> None:
    """Wait until an element shows this text."""
    await page.wait_for_function(
        "([selector, shown]) => document.querySelector(selector).textContent === shown",
        arg=[selector, shown],
    )


async def in_november(route: Route) -> None:
    """Let the usage chart show the month of the page's clock, not that of the server."""
    usage = await (await route.fetch()).json()
    for month in usage["months"]:
        month["label"] = f"{NOW:%Y-%m}"
    await route.fulfill(json=usage)


def write(path: Path, shot: bytes) -> None:
    """Write the picture with a small palette, unless it looks as the one that is there."""
    new = Image.open(io.BytesIO(shot)).convert("RGB")
    if path.exists():
        old = Image.open(path).convert("RGB")
        if old.size == new.size:
            # The palette moves colors a little.
            apart = (
                ImageChops.difference(old, new).convert("L").point(lambda value: 255 * (value > 24))
            )
            if apart.histogram()[255] < SAME * old.width * old.height:
                print(f"{path} looks as before")
                return
    new.quantize(192, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path} ({path.stat().st_size // 1000} kB)")


async def photograph_all(names: list[str], link: str, microphone: Path) -> None:
    """Photograph the chosen pictures, one after the other."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            timeout=TIMEOUT_MS,
            args=[
                "--no-sandbox",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                f"--use-file-for-fake-audio-capture={microphone}",
            ],
        )
        for name in names:
            write(IMAGES / f"{name}.png", await photograph(browser, link, PICTURES[name]))
        await browser.close()


async def photograph_chosen(names: list[str]) -> None:
    """Store the recordings, run the app and photograph it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, microphone = Path(temporary, "data"), Path(temporary, "microphone.wav")
        await asyncio.to_thread(microphone.write_bytes, voices.wav(8, 45))
        async with LocalServer(data_dir=folder) as server:
            await store(server.settings())
        async with demo(folder) as link:
            await photograph_all(names, link, microphone)


def main() -> None:
    """Photograph the chosen pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="all by default")
    chosen = parser.parse_args().names
    for name in [name for name in os.environ if name.startswith("BACKBLAZE_")]:
        del os.environ[name]
    asyncio.run(photograph_chosen([name for name in PICTURES if not chosen or name in chosen]))


if __name__ == "__main__":
    main()
