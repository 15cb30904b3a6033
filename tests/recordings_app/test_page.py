"""The page of the example app in Chromium, with a microphone that plays a real recording."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from careflow_storage import BackblazeStorage
from tests.recordings_app.conftest import TOKENS
from tests.support.bodies import noise
from tests.support.npm import bundle

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page, Route

pytest_plugins = ["careflow_storage.testing.plugin"]

MIB = 1024 * 1024
LONG = 10 * MIB + 100_000  # three parts
SPEECH = Path(__file__).parents[1] / "data/greeting.wav"
# The busiest machine takes a while for what takes a moment otherwise.
PATIENCE_MS = 60_000
PART = re.compile(r"partNumber=(\d+)")

# What the page plays, decoded: seconds and loudness.
DECODE = """async (path) => {
  const bytes = await (await fetch(path)).arrayBuffer();
  const audio = await new OfflineAudioContext(1, 1, 48000).decodeAudioData(bytes);
  const samples = audio.getChannelData(0).slice(0, 96000);
  return { seconds: audio.duration, loudness: Math.max(...samples.map(Math.abs)) };
}"""

# The second that is played may be over before the test can look at the page.
NOTE_WHAT_IS_PLAYED = """() => {
  const row = document.querySelector(".row");
  window.seen = [];
  window.furthest = 0;
  new MutationObserver(() => {
    if (seen.at(-1) !== row.dataset.state) seen.push(row.dataset.state);
    const played = row.querySelector(".wave").style.getPropertyValue("--played");
    if (row.dataset.state === "playing") furthest = Math.max(furthest, Number(played));
  }).observe(row, { attributes: true, subtree: true });
}"""


@pytest.fixture
def chromium_arguments() -> tuple[str, ...]:
    return (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={SPEECH}",
    )


@pytest.fixture
async def context(
    chromium: Browser, address: str, emulated: BackblazeStorage
) -> AsyncIterator[BrowserContext]:
    """A browser with its own cookies; the bucket takes uploads from the app's page."""
    await emulated.admin.allow_browser_uploads(address, preset="put")
    opened = await chromium.new_context(base_url=address, permissions=["microphone"])
    opened.set_default_timeout(PATIENCE_MS)
    yield opened
    await opened.close()


@pytest.fixture
async def page(context: BrowserContext) -> Page:
    """The page of a user who has just signed in."""
    return await signed_in(context)


async def signed_in(context: BrowserContext, user: str = "anna") -> Page:
    page = await context.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    await page.goto(f"/#token={TOKENS[user].replace(' ', '%20')}")
    await page.wait_for_selector("#view[aria-busy=false]")
    assert "token" not in page.url
    assert failures == []
    return page


def file(name: str, size: int) -> Any:
    return {"name": name, "mimeType": "audio/webm", "buffer": noise(size)}


async def titles(page: Page) -> list[str]:
    return await page.locator(".row-title").all_inner_texts()


async def record(page: Page, seconds: int = 2) -> None:
    await page.click("#record")
    await page.wait_for_function(
        "seconds => document.getElementById('recorder-time').textContent >= `0:0${seconds}`",
        arg=seconds,
    )


async def only_recording(storage: BackblazeStorage) -> bytes:
    (found,) = await storage.list_files("recordings/")
    return await storage.get_file(found.key)


# --- recording --------------------------------------------------------------------------


async def test_a_recording_is_made_listed_deleted_and_restored(page: Page) -> None:
    assert "No recordings yet" in await page.inner_text("#view")
    await record(page)
    await page.click("#record-stop")
    await page.wait_for_selector(".row")
    assert await titles(page) == ["microphone.webm"]
    path = await page.locator(".row").get_attribute("data-path")
    heard = await page.evaluate(DECODE, path)
    assert heard["seconds"] > 1.5
    assert heard["loudness"] > 0.1

    await seek_to_the_middle_and_play(page)

    await page.click(".row-delete")
    await page.wait_for_selector(".message")
    await page.click(".toast-action")  # Undo
    await page.wait_for_selector(".row-delete")

    await page.click(".row-delete")
    await page.click(".tab[data-view=deleted]")
    await page.click(".row-restore")
    await page.wait_for_selector(".message")
    await page.click(".tab[data-view=recordings]")
    await page.wait_for_selector(".wave")
    assert await page.evaluate(DECODE, path) == heard


async def test_a_recording_survives_the_loss_of_its_connection(
    context: BrowserContext, emulated: BackblazeStorage
) -> None:
    page = await signed_in(context)
    sockets = []

    def connect(route: Any) -> None:
        sockets.append((route, route.connect_to_server()))

    await page.route_web_socket(re.compile("/api/live/"), connect)
    await record(page, 1)
    ((near, far),) = sockets
    await far.close(code=1001, reason="the network failed")
    await near.close(code=1001, reason="the network failed")
    await page.wait_for_selector("#recorder-note[data-kind=warning]")
    await page.wait_for_function(
        "() => document.getElementById('recorder-time').textContent >= '0:03'"
    )
    await page.click("#record-stop")
    await page.wait_for_selector(".toast:has-text('The recording is stored.')")
    await page.wait_for_selector(".row")
    assert await titles(page) == ["microphone.webm"]
    path = await page.locator(".row").get_attribute("data-path")
    assert (await page.evaluate(DECODE, path))["seconds"] > 2.5
    assert (await only_recording(emulated))[:4] == b"\x1aE\xdf\xa3"


async def seek_to_the_middle_and_play(page: Page) -> None:
    """Click on the middle of the waveform, play from there to the end, and see it go back."""
    await page.wait_for_selector(".wave[data-state=ready]")
    wave = page.locator(".wave")
    assert await wave.get_attribute("role") == "slider"
    await wave.click()  # in its middle
    played = "() => getComputedStyle(document.querySelector('.wave')).getPropertyValue('--played')"
    assert 0.45 < float(await page.evaluate(played)) < 0.55
    await page.evaluate(NOTE_WHAT_IS_PLAYED)
    await wave.press("Space")
    await page.wait_for_function("() => furthest > 0.6 && seen.at(-1) === 'paused'")
    assert "playing" in await page.evaluate("seen")
    assert await page.get_attribute(".wave", "aria-valuenow") == "0"


@pytest.mark.parametrize("width", [390, 820, 1280])
async def test_the_waveform_fills_the_row_up_to_the_time(
    page: Page, emulated: BackblazeStorage, width: int
) -> None:
    await emulated.upload_recording("anna.CA1", SPEECH, "greeting.wav")
    await page.set_viewport_size({"width": width, "height": 844})
    await page.reload()
    await page.wait_for_selector(".wave[data-state=ready]")
    await page.wait_for_function(
        """() => {
          const names = [".wave", ".wave path", ".row-time"];
          const [box, bars, time] = names.map((name) => document.querySelector(name))
            .map((element) => element.getBoundingClientRect());
          return box.right - bars.right < 5 && time.left - box.right <= 16;
        }"""
    )


async def test_the_waveform_is_a_slider_for_the_keyboard(
    page: Page, emulated: BackblazeStorage
) -> None:
    await emulated.upload_recording("anna.CA1", SPEECH, "greeting.wav")
    await page.reload()
    await page.wait_for_selector(".wave[data-state=ready]")
    wave = page.locator(".wave")
    assert await wave.get_attribute("aria-label") == "Position in greeting.wav"
    assert await wave.get_attribute("aria-valuemax") == "7"
    for key, seconds in (
        ("ArrowRight", 5),
        ("End", 7),
        ("ArrowLeft", 2),
        ("Home", 0),
        ("PageUp", 1),
        ("PageDown", 0),
        ("ArrowDown", 0),
    ):
        await wave.press(key)
        assert await wave.get_attribute("aria-valuenow") == str(seconds), key
    await wave.press("PageUp")
    assert await wave.get_attribute("aria-valuetext") == "0 seconds of 7 seconds"


async def test_a_closed_tab_leaves_what_was_recorded_marked_as_cut_off(
    context: BrowserContext, chunks_received: asyncio.Semaphore
) -> None:
    first, second = await signed_in(context), await signed_in(context)
    await second.click("#record")
    # Of half a second each. What has not left the page yet is lost with it.
    for _ in range(2):
        await chunks_received.acquire()
    await second.close()
    while not await first.locator(".badge:visible").count():
        await first.reload()
        await first.wait_for_selector(".row, .message")
    path = await first.locator(".row").get_attribute("data-path")
    assert (await first.evaluate(DECODE, path))["seconds"] > 0.4


# --- uploads ----------------------------------------------------------------------------


class Network:
    """The way to the bucket: all parts but the first are lost or held, until it is mended.

    ``reached`` is set when the page sends the third part, which follows the stored first one.
    """

    def __init__(self, *, hold: bool = False) -> None:
        self.sent: list[int] = []
        self.reached = asyncio.Event()
        self.mended = asyncio.Event()
        self.lost = 0
        self._hold = hold

    async def __call__(self, route: Route) -> None:
        found = PART.search(route.request.url)
        if found is None or route.request.method != "PUT":
            await route.continue_()
            return
        number = int(found[1])
        if number > 1 and not self.mended.is_set():
            if number == 3:
                self.reached.set()
            if not self._hold:
                self.lost += 1
                await route.abort("internetdisconnected")
                return
            await self.mended.wait()
        self.sent.append(number)
        await route.continue_()


async def test_an_upload_goes_on_when_the_network_is_back(
    page: Page, emulated: BackblazeStorage
) -> None:
    network = Network()
    await page.route(PART, network)
    await page.set_input_files("#files", [file("long.webm", LONG)])
    await page.wait_for_selector(".upload[data-state=offline]")
    assert "Waiting for the network" in await page.inner_text(".upload-status")
    network.mended.set()
    await page.evaluate("dispatchEvent(new Event('online'))")
    await page.wait_for_selector(".row")
    assert network.lost > 0
    assert sorted(network.sent) == [1, 2, 3]
    assert await only_recording(emulated) == noise(LONG)
    assert await emulated.list_incomplete_uploads() == []


async def test_an_upload_pauses_and_resumes_with_what_is_missing(
    page: Page, emulated: BackblazeStorage
) -> None:
    network = Network(hold=True)
    await page.route(PART, network)
    await page.set_input_files("#files", [file("long.webm", LONG)])
    await network.reached.wait()
    assert await page.get_attribute(".progress", "aria-valuenow") == "50"
    await page.click(".upload-pause")
    assert await page.inner_text(".upload-status") == "Paused at 5.2 MB of 11 MB"
    assert await page.evaluate("document.activeElement.className") == "icon-button upload-resume"
    network.mended.set()
    await page.keyboard.press("Enter")
    await page.wait_for_selector(".row")
    assert network.sent.count(1) == 1
    assert await only_recording(emulated) == noise(LONG)


async def reloaded_during_an_upload(page: Page, tmp_path: Path) -> Path:
    """Reload the page when the bucket holds the first part of a file."""
    path = tmp_path / "long.webm"
    path.write_bytes(noise(LONG))
    await page.route(PART, Network())
    await page.set_input_files("#files", path)
    await page.wait_for_selector(".upload[data-state=offline]")
    page.on("dialog", lambda dialog: dialog.accept())
    await page.reload()
    await page.wait_for_selector(".upload[data-state=stopped]")
    await page.unroute(PART)
    assert "Choose this file again" in await page.inner_text(".upload-status")
    return path


async def test_an_upload_goes_on_after_a_reload_with_what_is_missing(
    page: Page, emulated: BackblazeStorage, tmp_path: Path
) -> None:
    await page.fill("#call", "Mrs Lindqvist")
    path = await reloaded_during_an_upload(page, tmp_path)
    network = Network()
    network.mended.set()
    await page.route(PART, network)
    async with page.expect_file_chooser() as chooser:
        await page.click(".upload-resume")
    await (await chooser.value).set_files(path)
    await page.wait_for_selector(".row")
    assert sorted(network.sent) == [2, 3]
    assert await page.locator(".upload").count() == 0
    assert await page.inner_text(".call-name") == "Mrs Lindqvist"
    assert await only_recording(emulated) == noise(LONG)
    assert await emulated.list_incomplete_uploads() == []
    await page.reload()
    await page.wait_for_selector(".row")
    assert await page.locator(".upload").count() == 0


async def test_another_file_of_the_same_name_does_not_continue_an_upload(
    page: Page, emulated: BackblazeStorage, tmp_path: Path
) -> None:
    path = await reloaded_during_an_upload(page, tmp_path)
    path.write_bytes(bytes(LONG + 1))
    await page.set_input_files("#files", path)
    await page.wait_for_selector(".row")
    assert await only_recording(emulated) == bytes(LONG + 1)
    assert await page.locator(".upload[data-state=stopped]").count() == 1


async def test_an_upload_that_a_reload_stopped_can_be_cancelled(
    page: Page, emulated: BackblazeStorage, tmp_path: Path
) -> None:
    await reloaded_during_an_upload(page, tmp_path)
    async with page.expect_response(lambda sent: sent.request.method == "DELETE") as response:
        await page.click(".upload-cancel")
    assert (await response.value).status == 200
    assert await page.locator(".upload").count() == 0
    assert await emulated.list_incomplete_uploads() == []


async def test_a_cancelled_upload_leaves_nothing(page: Page, emulated: BackblazeStorage) -> None:
    network = Network(hold=True)
    await page.route(PART, network)
    await page.set_input_files("#files", [file("long.webm", LONG)])
    await network.reached.wait()
    async with page.expect_response(lambda sent: sent.request.method == "DELETE") as response:
        await page.click(".upload-cancel")
    assert (await response.value).status == 200
    network.mended.set()
    assert await page.locator(".upload").count() == 0
    assert await emulated.list_files() == []
    assert await emulated.list_incomplete_uploads() == []


async def test_a_file_that_may_not_be_uploaded_is_refused_with_a_reason(page: Page) -> None:
    text: Any = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no audio"}
    await page.set_input_files("#files", [text])
    await page.wait_for_selector(".upload[data-state=failed]")
    assert "text/plain" in await page.inner_text(".upload-status")


async def test_an_empty_file_is_refused(page: Page, emulated: BackblazeStorage) -> None:
    await page.set_input_files("#files", [file("empty.webm", 0)])
    await page.wait_for_selector(".upload[data-state=failed]")
    assert await page.inner_text(".upload-status") == "The file is empty."
    assert not await page.locator(".upload-resume").is_visible()
    assert await emulated.list_files("recordings/") == []


# --- tabs, users, the keyboard ----------------------------------------------------------


async def test_two_tabs_work_at_once(context: BrowserContext, emulated: BackblazeStorage) -> None:
    first, second = await signed_in(context), await signed_in(context)
    await record(first, 1)
    await second.set_input_files("#files", [file("a.webm", 6 * MIB), file("b.webm", 1000)])
    await second.wait_for_selector(".row >> nth=1")
    await first.click("#record-stop")
    for tab in (first, second):
        await tab.wait_for_selector(".row >> nth=2")
        assert sorted(await titles(tab)) == ["a.webm", "b.webm", "microphone.webm"]
    assert len(await emulated.list_files("recordings/anna.")) == 3


async def test_a_user_signs_in_with_a_token_and_sees_only_own_calls(
    context: BrowserContext, page: Page
) -> None:
    await page.set_input_files("#files", [file("a.webm", 1000)])
    await page.wait_for_selector(".row")
    await page.click("#sign-out")
    await page.fill("#token", "a wrong token")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#token-error:has-text('This token is not valid.')")
    await page.fill("#token", TOKENS["ben"])
    await page.keyboard.press("Enter")
    await page.wait_for_selector(".message")
    assert await page.inner_text("#user") == "Ben"
    assert "No recordings yet" in await page.inner_text("#view")


async def test_a_list_that_cannot_be_loaded_can_be_tried_again(page: Page) -> None:
    await page.route("**/api/recordings/deleted", lambda route: route.abort())
    await page.click(".tab[data-view=deleted]")
    await page.wait_for_selector(".message:has-text('This could not be loaded')")
    await page.unroute("**/api/recordings/deleted")
    await page.click(".message-button")
    await page.wait_for_selector(".message:has-text('Nothing is deleted')")


async def test_nothing_is_wider_than_the_screen(page: Page) -> None:
    name = "a-name-that-is-much-longer-than-any-row-can-show-" * 3
    await page.fill("#call", "A call with a rather long name, of an insurance company and more")
    await page.set_input_files("#files", [file(f"{name}.webm", 1000)])
    await page.wait_for_selector(".row")
    for view, shown in (("recordings", ".row"), ("deleted", ".message"), ("usage", ".figures")):
        await page.click(f".tab[data-view={view}]")
        await page.wait_for_selector(shown)
        for width in (320, 390, 820, 1280):
            await page.set_viewport_size({"width": width, "height": 800})
            assert await page.evaluate("document.documentElement.scrollWidth") <= width


# --- accessibility ----------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_no_fault(
    chromium: Browser, address: str, emulated: BackblazeStorage, scheme: Any
) -> None:
    axe = bundle(Path(__file__).parent / "axe")
    await emulated.admin.allow_browser_uploads(address, preset="put")
    await emulated.upload_recording("anna.CA1", SPEECH, "greeting.wav")
    deleted = await emulated.upload_recording("anna.CA2", SPEECH, "deleted.wav")
    await emulated.delete_file(deleted.key)
    context = await chromium.new_context(
        base_url=address, color_scheme=scheme, reduced_motion="reduce", permissions=["microphone"]
    )
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    found: dict[str, Any] = {}

    async def check(state: str) -> None:
        await page.evaluate(axe)
        result = await page.evaluate("axe.run({ resultTypes: ['violations'] })")
        if result["violations"]:
            found[state] = [
                (fault["id"], [node["html"] for node in fault["nodes"]])
                for fault in result["violations"]
            ]

    await page.goto("/")
    await page.wait_for_selector("#sign-in-form")
    await check("sign-in")
    page = await signed_in(context)
    await page.wait_for_selector(".wave[data-state=ready]")
    await page.click(".play")
    await check("recordings")
    for view, shown in (("deleted", ".row-restore"), ("usage", ".figures")):
        await page.click(f".tab[data-view={view}]")
        await page.wait_for_selector(shown)
        await check(view)
    text: Any = {"name": "a.txt", "mimeType": "text/plain", "buffer": b"a"}
    await page.set_input_files("#files", [text])
    await page.wait_for_selector(".upload[data-state=failed]")
    await record(page, 1)
    await check("recording")
    await context.close()
    assert found == {}
