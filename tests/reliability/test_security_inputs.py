"""Untrusted input that a caller passes on is refused or harmless."""

from __future__ import annotations

import os
import re
import stat
import sys
import unicodedata
from collections.abc import Awaitable, Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage import BackblazeStorage, InvalidInputError
from careflow_storage.recordings import safe_filename
from tests.support.hostile import HostileServer, raw_response

BREAKS = ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b", "a\x7fb", "a\r\n folded"]
Call = Callable[[BackblazeStorage, str], Awaitable[Any]]
INTO_HEADERS: dict[str, Call] = {
    "key": lambda storage, text: storage.upload_file(text, b"x"),
    "key of a download": lambda storage, text: storage.get_file(text),
    "key to delete": lambda storage, text: storage.delete_files([text]),
    "key to sign": lambda storage, text: storage.get_signed_url(text),
    "call ID": lambda storage, text: storage.upload_recording(text, b"x", "a.wav"),
    "filename": lambda storage, text: storage.upload_recording("CA1", b"x", text),
    "metadata": lambda storage, text: storage.upload_file("k", b"x", metadata={"a": text}),
    "name of metadata": lambda storage, text: storage.upload_file("k", b"x", metadata={text: "a"}),
    "content type": lambda storage, text: storage.upload_file("k", b"x", text),
    "cache control": lambda storage, text: storage.upload_file("k", b"x", cache_control=text),
    "disposition": lambda storage, text: storage.upload_file("k", b"x", content_disposition=text),
    "download as": lambda storage, text: storage.get_signed_url("k", download_as=text),
    "signed type": lambda storage, text: storage.get_signed_url("k", content_type=text),
    "type of an upload": lambda storage, text: storage.get_signed_url(
        "k", method="PUT", content_type=text
    ),
    "prefix": lambda storage, text: storage.list_files(text),
}


@pytest.mark.parametrize("call", INTO_HEADERS.values(), ids=INTO_HEADERS.keys())
async def test_a_line_break_is_refused_before_any_request(call: Call) -> None:
    async with (
        HostileServer(lambda _: raw_response(b"")) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        for text in BREAKS:
            with pytest.raises(InvalidInputError) as caught:
                await call(storage, text)
            assert "\n" not in str(caught.value)
            assert "\r" not in str(caught.value)
        assert not server.asked


@pytest.mark.parametrize("text", ["a&b=c#d?e", "a%0d%0aX: 1", "\u00e4 \u2028 +", "a/../b", *BREAKS])
async def test_a_version_id_stays_one_parameter(text: str) -> None:
    async with (
        HostileServer(lambda _: raw_response(b"", "204 No Content")) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        await storage.delete_file("k", version_id=text)
        (asked,) = server.asked
        assert re.fullmatch(r"/recordings-bucket/k\?versionId=[A-Za-z0-9%._~-]+", asked.target)
        assert "x-evil" not in asked.headers


# --- names for local files --------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("recordings/CA1/1-a.webm", "1-a.webm"),
        ("../../etc/passwd", "passwd"),
        ("a/..", "_"),
        ("C:\\Windows\\con.txt", "_con.txt"),
        ("C:evil.wav", "C_evil.wav"),
        ("aux", "_aux"),
        ("NUL .wav", "_NUL .wav"),
        ("a/.bashrc", "_bashrc"),
        ("a\0b\n.webm", "a_b_.webm"),
        ("call\u202egpj.exe", "call_gpj.exe"),
        ("a. . ", "a"),
        ("", "_"),
        ("///", "_"),
        ("\ud800", "_"),
    ],
)
def test_a_key_becomes_a_harmless_name(key: str, name: str) -> None:
    assert safe_filename(key) == name


def test_a_long_key_keeps_its_ending() -> None:
    name = safe_filename("ä" * 500 + ".webm")
    assert name.endswith("ä.webm")
    assert len(name.encode()) <= 250


@given(st.text(max_size=400))
def test_any_key_becomes_one_name_in_the_folder_it_is_put_in(key: str) -> None:
    name = safe_filename(key)
    assert 1 <= len(name.encode()) <= 250
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind("folder") / name
        assert path.parent == kind("folder")
        assert path.name == name
        assert not path.is_absolute()
    assert not set(name) & set('<>:"/\\|?*\0')
    assert name not in (".", "..")


# --- targets of downloads ---------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
async def test_a_link_at_the_target_is_replaced_not_followed(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    await storage.upload_file("k", b"new")
    precious, link = tmp_path / "precious", tmp_path / "link"
    precious.write_bytes(b"old")
    link.symlink_to(precious)
    await storage.download_file("k", link)
    assert precious.read_bytes() == b"old"
    assert link.read_bytes() == b"new"
    assert not link.is_symlink()
    assert stat.S_ISREG(os.lstat(link).st_mode)


# Drawn, though Unicode calls them format characters.
_DRAWN = {*range(0x0600, 0x0606), 0x06DD, 0x070F, 0x0890, 0x0891, 0x08E2, 0x110BD, 0x110CD}


def test_what_cannot_be_seen_is_in_no_safe_filename() -> None:
    unseen = [
        chr(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Zl", "Zp") and code not in _DRAWN
    ]
    unseen += [chr(code) for code in (*range(0xFE00, 0xFE10), *range(0xE0000, 0xE1000), 0x3164)]
    assert {safe_filename(f"calls/a{each}b.wav") for each in unseen} == {"a_b.wav"}


def test_a_text_of_tags_does_not_survive_in_a_name() -> None:
    hidden = "".join(chr(0xE0000 + ord(letter)) for letter in "rm -rf")
    assert safe_filename(f"calls/call{hidden}.wav") == "call______.wav"


@pytest.mark.parametrize(
    "name", ["\u0645\u0643.wav", "\u901a\u8bdd.mp3", "e\u0301.ogg", "\u0600.wav"]
)
def test_letters_of_any_script_and_accents_stay(name: str) -> None:
    assert safe_filename(f"calls/{name}") == name
