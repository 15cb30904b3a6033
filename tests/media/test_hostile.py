"""Files that are damaged, lie about themselves, or refer to other files."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.media import (
    UnsupportedMediaError,
    make_seekable,
    probe,
    probing,
    waveform,
    waveforms,
)
from careflow_storage.media._tasks import Limits
from careflow_storage.media._worker.decoding import waveform as decode
from careflow_storage.media._worker.main import _run
from careflow_storage.media._worker.probing import probe as describe
from careflow_storage.media._worker.protocol import DONE, UNSUPPORTED
from careflow_storage.media._worker.remuxing import remux
from careflow_storage.testing import B2Server
from tests.support.audio import file_of, greeting, recorded, riff, wav

CALLS = [probe, waveform, make_seekable]
FILES = {
    **{ending: greeting(ending) for ending in ("webm", "ogg", "mp3", "m4a", "wav")},
    "recorded.webm": recorded("webm"),
    "recorded.mp4": recorded("mp4"),
}


@pytest.fixture
async def storage(server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(server.settings()) as opened:
        yield opened


def last_message(content: bytes, folder: Path) -> set[bytes]:
    """What the child would send for these bytes, whatever the task."""
    job: dict[str, Any] = {"content_type": "", "format": None, "points": 50}
    job["output"] = str(folder / "output")
    return {_run(task, file_of(content), job)[0] for task in (describe, decode, remux)}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_file_that_is_cut_anywhere(content: bytes, tmp_path: Path) -> None:
    for end in [*range(0, 64, 7), *range(64, len(content), len(content) // 8)]:
        assert last_message(content[:end], tmp_path) <= {DONE, UNSUPPORTED}, end


@pytest.mark.parametrize("seeds", [3, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_file_with_flipped_bits(content: bytes, tmp_path: Path, seeds: int) -> None:
    for seed in range(seeds):
        dice = random.Random(seed)
        damaged = bytearray(content)
        # The tables are at the start, and at the end of an M4A.
        places = [dice.randrange(min(700, len(content))), dice.randrange(len(content))]
        places.append(len(content) - 1 - dice.randrange(700))
        for place in places:
            damaged[place] ^= 1 << dice.randrange(8)
        assert last_message(bytes(damaged), tmp_path) <= {DONE, UNSUPPORTED}, seed


def stated_duration(seconds: float) -> bytes:
    """A WebM that claims to last so long."""
    content = bytearray(greeting("webm"))
    at = content.index(b"\x44\x89\x88") + 3
    content[at : at + 8] = struct.pack(">d", seconds * 1000)
    return bytes(content)


LIARS = {
    "a billion seconds": stated_duration(1e9),
    "no number of seconds": stated_duration(float("nan")),
    "65535 channels": riff(1, bytes(65535 * 2), channels=65535, bits=16),
    "no channels": riff(1, bytes(100), channels=0, bits=16),
    "a rate of 4 GHz": riff(1, bytes(100), rate=2**32 - 1),
    "a zip": b"PK\x03\x04" + bytes(1000),
    "a zip with an ID3 tag": b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + b"PK\x03\x04" + bytes(1000),
    "an APE": b"MAC \x96\x0f" + bytes(1000),
    "a WebM of zeros": b"\x1a\x45\xdf\xa3" + bytes(100_000),
    "an Ogg of zeros": b"OggS" + bytes(100_000),
    "an MP4 whose box is endless": struct.pack(">I4sI", 12, b"ftyp", 0)
    + struct.pack(">I4sQ", 1, b"moov", 2**63),
    "a WAV without samples": wav([])[:36],
}


@pytest.mark.parametrize("content", LIARS.values(), ids=LIARS)
def test_a_file_that_lies_about_itself(content: bytes, tmp_path: Path) -> None:
    job: dict[str, Any] = {"content_type": "", "format": None, "points": 50}
    kind, found = _run(describe, file_of(content), job)
    if kind == DONE:
        # The stated duration was none: it was measured.
        assert found["duration"] == pytest.approx(7.33, abs=0.02)
    else:
        assert kind == UNSUPPORTED
        assert len(found[0]) < 200


class Listener:
    """Counts connections."""

    def __init__(self) -> None:
        self.connections = 0

    def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:7\n#EXTINF:7,\n{url}/a.ts\n#EXTINF:7,\n{path}\n"
    "#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{url}/a.webm'\nfile '{path}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
    '<Period><AdaptationSet mimeType="audio/webm"><Representation id="1" bandwidth="1">'
    "<BaseURL>{url}/a.webm</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} TCP 0\n",
    "smil": '<smil><body><audio src="{url}/a.webm"/></body></smil>',
    "ram": "{url}/a.rm\n",
    "pls": "[playlist]\nFile1={url}/a.mp3\nNumberOfEntries=1\nVersion=2\n",
}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, id=name, marks=[] if name == "hls" else pytest.mark.slow)
        for name, text in PLAYLISTS.items()
    ],
)
async def test_a_playlist_opens_nothing(
    storage: BackblazeStorage, recordings: dict[str, Path], text: str
) -> None:
    listener = Listener()
    async with await asyncio.start_server(listener, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url, path = f"http://127.0.0.1:{port}", recordings["greeting.webm"]
        content = text.format(url=url, path=path, port=port).encode()
        # With a tag before it, as if it were an MP3.
        tagged = b"ID3\x04\0\0\0\0\0\0" + content
        await storage.upload_file("call.m3u8", content, "application/vnd.apple.mpegurl")
        await storage.upload_file("call.mp3", tagged, "audio/mpeg")
        for key in ("call.m3u8", "call.mp3"):
            with pytest.raises(UnsupportedMediaError):
                await waveform(storage, key)
    assert listener.connections == 0


async def test_an_empty_file(storage: BackblazeStorage) -> None:
    await storage.upload_file("empty.webm", b"")
    for call in CALLS:
        with pytest.raises(UnsupportedMediaError, match="The file is empty"):
            await call(storage, "empty.webm")  # type: ignore[operator]  # three functions


async def test_an_error_page_that_was_stored_as_audio(storage: BackblazeStorage) -> None:
    await storage.upload_file("call.webm", b"<!doctype html><title>502</title>", "audio/webm")
    with pytest.raises(UnsupportedMediaError, match="not in a supported") as refused:
        await probe(storage, "call.webm")
    assert refused.value.hint is not None
    assert "web page" in refused.value.hint


async def test_a_file_that_needs_more_memory(
    storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "_LIMITS", Limits(20, 1, memory=4096))
    await storage.upload_file("call", greeting("m4a"))
    with pytest.raises(UnsupportedMediaError, match="memory"):
        await probe(storage, "call")


@pytest.mark.slow
async def test_a_file_that_needs_more_processor_time(
    storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waveforms, "_LIMITS", Limits(1, 0, memory=2**28))
    await storage.upload_file("call", bytes(40_000_000), "audio/x-mulaw")
    with pytest.raises(UnsupportedMediaError, match="more processor time or memory"):
        await waveform(storage, "call")
    assert (await probe(storage, "call")).duration == 5000
