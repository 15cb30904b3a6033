"""What Chromium's MediaRecorder writes, made seekable, and played by Chromium."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.media import UnsupportedMediaError, make_seekable, probe, waveform
from tests.support.web import site

if TYPE_CHECKING:
    from playwright.async_api import Page

RECORD = """async ([mimeType, seconds, video]) => {
  if (!MediaRecorder.isTypeSupported(mimeType)) return null;
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video });
  const recorder = new MediaRecorder(stream, { mimeType });
  const pieces = [];
  recorder.ondataavailable = (event) => pieces.push(event.data);
  const stopped = new Promise((resolve) => { recorder.onstop = resolve; });
  recorder.start(500);
  const audio = new AudioContext();
  while (audio.currentTime < seconds) await new Promise((resolve) => setTimeout(resolve, 50));
  recorder.stop();
  await stopped;
  stream.getTracks().forEach((track) => track.stop());
  const reader = new FileReader();
  const read = new Promise((resolve) => { reader.onload = resolve; });
  reader.readAsDataURL(new Blob(pieces));
  await read;
  return reader.result.split(",")[1];
}"""

# Loads a file, seeks to 60 %, and plays on from there.
PLAY = """async ([url, seek]) => {
  const player = document.createElement("video");
  const once = (event) => new Promise((resolve, reject) => {
    player.addEventListener(event, resolve, { once: true });
    player.addEventListener("error", () => reject(new Error(player.error.message)), { once: true });
  });
  const loaded = once("loadedmetadata");
  player.preload = "metadata";
  player.muted = true;
  player.src = url;
  await loaded;
  const duration = player.duration;
  if (!seek) return { duration: Number.isFinite(duration) ? duration : null };
  const seeked = once("seeked");
  player.currentTime = duration * 0.6;
  await seeked;
  const at = player.currentTime;
  const moved = new Promise((resolve) => {
    player.ontimeupdate = () => { if (player.currentTime > at + 0.2) resolve(); };
  });
  await player.play();
  await moved;
  const ended = once("ended");
  player.currentTime = duration - 0.2;
  await ended;
  return { duration, at, end: player.currentTime };
}"""


@pytest.fixture
def chromium_arguments() -> tuple[str, ...]:
    return (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        "--autoplay-policy=no-user-gesture-required",
    )


@pytest.fixture
async def page(tab: Page) -> AsyncIterator[Page]:
    """A page that may use the microphone: one of this machine."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/html")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"<!doctype html><title>Calls</title>"})

    async with site(app, lifespan="off") as running:
        await tab.goto(running.url)
        yield tab


async def recording(page: Page, mime_type: str, seconds: float = 4) -> bytes:
    video = mime_type.startswith("video/")
    found: str | None = await page.evaluate(RECORD, [mime_type, seconds, video])
    if found is None:
        pytest.skip(f"this Chromium does not record {mime_type}")
    return base64.b64decode(found)


async def play(page: Page, storage: BackblazeStorage, *, seek: bool) -> dict[str, Any]:
    # The browser caches what it has read of a URL, and URLs of the same second are equal.
    url = await storage.get_signed_url("call", expires_in=600 if seek else 601)
    found: dict[str, Any] = await page.evaluate(PLAY, [url, seek])
    return found


@pytest.mark.parametrize(
    ("mime_type", "hides_duration"),
    [
        ("audio/webm;codecs=opus", True),
        # Chromium guesses it from the bit rate.
        ("audio/webm;codecs=pcm", False),
        ("audio/mp4;codecs=opus", False),
        ("audio/mp4;codecs=mp4a.40.2", False),
        ("video/webm;codecs=vp8,opus", True),
        ("video/webm;codecs=h264,opus", True),
        ("video/mp4;codecs=vp9,opus", False),
    ],
)
async def test_a_recording_gets_its_true_duration_and_seeks(
    page: Page, seaweed_storage: BackblazeStorage, mime_type: str, hides_duration: bool
) -> None:
    storage = seaweed_storage
    content = await recording(page, mime_type)
    await storage.upload_file("call", content, mime_type.partition(";")[0])
    before = await probe(storage, "call")
    assert not before.seekable
    if hides_duration:
        assert (await play(page, storage, seek=False))["duration"] is None
    await make_seekable(storage, "call")
    info = await probe(storage, "call")
    assert info.seekable
    assert info.duration == pytest.approx(before.duration, abs=0.1)
    played = await play(page, storage, seek=True)
    assert played["duration"] == pytest.approx(info.duration, abs=0.1)
    assert played["at"] == pytest.approx(0.6 * played["duration"], abs=0.1)
    assert played["end"] == pytest.approx(played["duration"], abs=0.2)
    # The fake microphone beeps each second.
    assert max((await waveform(storage, "call", points=100)).mix.peaks) > 0.1


async def test_a_recording_that_was_cut_off_in_the_middle(
    page: Page, seaweed_storage: BackblazeStorage
) -> None:
    storage = seaweed_storage
    content = await recording(page, "audio/webm;codecs=opus")
    await storage.upload_file("call", content[: len(content) * 2 // 3], "audio/webm")
    await make_seekable(storage, "call")
    played = await play(page, storage, seek=True)
    assert played["duration"] == pytest.approx((await probe(storage, "call")).duration, abs=0.1)


async def test_a_recorder_that_sends_nothing(page: Page, seaweed_storage: BackblazeStorage) -> None:
    await seaweed_storage.upload_file("call", b"", "audio/webm")
    with pytest.raises(UnsupportedMediaError, match="The file is empty"):
        await make_seekable(seaweed_storage, "call")
