"""The content type of a recording, by its bytes and by its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from careflow_storage.content_types import HEAD_BYTES, detect_content_type

DATA = Path(__file__).parent / "data"
REAL = {
    "greeting.webm": "audio/webm",
    "greeting.ogg": "audio/ogg",
    "greeting.wav": "audio/wav",
    "greeting.mp3": "audio/mpeg",
    "greeting.m4a": "audio/mp4",
}


class TestContentTypesOfRealRecordings:
    def test_given_the_recordings_of_the_tests_then_each_has_an_expected_type(self) -> None:
        assert {path.name for path in DATA.glob("greeting.*")} == set(REAL)

    @pytest.mark.parametrize(("name", "expected"), REAL.items())
    def test_given_a_recording_without_a_known_ending_then_its_bytes_decide(
        self, name: str, expected: str
    ) -> None:
        head = (DATA / name).read_bytes()[:HEAD_BYTES]
        assert detect_content_type("recording", head) == expected

    @pytest.mark.parametrize(("name", "expected"), REAL.items())
    def test_given_a_recording_with_another_format_in_its_name_then_its_bytes_win(
        self, name: str, expected: str
    ) -> None:
        head = (DATA / name).read_bytes()[:HEAD_BYTES]
        assert detect_content_type("recording.txt", head) == expected

    @pytest.mark.parametrize(("name", "expected"), REAL.items())
    def test_given_a_recording_of_which_only_the_name_is_known_then_the_name_decides(
        self, name: str, expected: str
    ) -> None:
        assert detect_content_type(name.upper(), b"") == expected

    def test_given_an_mp3_without_its_tag_then_the_frame_decides(self) -> None:
        mp3 = (DATA / "greeting.mp3").read_bytes()
        assert mp3.startswith(b"ID3")
        frames = mp3[10 + mp3[9] :]
        assert detect_content_type("x", frames) == "audio/mpeg"


class TestContentTypes:
    @pytest.mark.parametrize(
        ("head", "expected"),
        [
            (b"\x1aE\xdf\xa3....B\x82\x84webm....\x86\x85V_VP8", "video/webm"),
            (b"\x1aE\xdf\xa3....B\x82\x88matroska....\x86\x86A_OPUS", "audio/matroska"),
            (b"OggS" + bytes(24) + b"\x80theora", "video/ogg"),
            (b"RF64\xff\xff\xff\xffWAVEds64", "audio/wav"),
            (b"FORM\x00\x00\x10\x00AIFFCOMM", "audio/aiff"),
            (b"fLaC\x00\x00\x00\x22", "audio/flac"),
            (b"#!AMR\n\x3c", "audio/AMR"),
            (b"#!AMR-WB\n\x3c", "audio/AMR-WB"),
            (b"caff\x00\x01\x00\x00desc", "audio/x-caf"),
            (b".snd\x00\x00\x00\x18", "audio/basic"),
            (b"\xff\xf1\x50\x80\x2e\x7f\xfc", "audio/aac"),
            (b"\xff\xfb\x90\x44", "audio/mpeg"),
            (b"\xff\xe3\x18\xc4", "audio/mpeg"),
            (b"ID3\x04\x00\x00\x00\x00\x00\x02ab" + b"\xff\xf1\x50\x80", "audio/aac"),
            (b"ID3\x04\x00\x00\x00\x00\x7f\x7f", "audio/mpeg"),
            (b"\x00\x00\x00\x1cftypM4A \x00\x00\x02\x00", "audio/mp4"),
            (b"\x00\x00\x00\x14ftypqt  ", "video/quicktime"),
            (b"\x00\x00\x00\x18ftyp3gp4", "video/3gpp"),
            (b"\x00\x00\x00\x18ftypisom..hdlr" + bytes(8) + b"soun", "audio/mp4"),
            (b"\x00\x00\x00\x18ftyp3gp4..hdlr" + bytes(8) + b"soun", "audio/3gpp"),
            (
                b"\x00\x00\x00\x18ftypisom..hdlr%b..hdlr%b"
                % (bytes(8) + b"soun", bytes(8) + b"vide"),
                "video/mp4",
            ),
            (b"\x00\x00\x00\x18ftypmp42", "video/mp4"),
        ],
    )
    def test_given_the_bytes_of_a_format_then_they_tell_it(
        self, head: bytes, expected: str
    ) -> None:
        assert detect_content_type("recording", head) == expected

    def test_given_an_mp4_whose_tracks_are_not_yet_seen_then_the_name_decides(self) -> None:
        assert detect_content_type("memo.m4a", b"\x00\x00\x00\x18ftypmp42") == "audio/mp4"

    @pytest.mark.parametrize(
        "head",
        [
            b"\xff" * 64,  # silence in mu-law, as telephones send it without any header
            b"\xff\xfea\x00b\x00",  # text in UTF-16
            b"\xff\xd8\xff\xe0\x00\x10JFIF",
            b"\xff\xfb",
            b"RIFF\x00\x00\x00\x00AVI ",
            b"ID3",
            b"",
        ],
    )
    def test_given_bytes_that_only_resemble_a_recording_then_the_name_decides(
        self, head: bytes
    ) -> None:
        assert detect_content_type("x.flac", head) == "audio/flac"
        assert detect_content_type("x", head) == "application/octet-stream"

    @pytest.mark.parametrize("name", ["", ".wav", "wav", "x.", "x.exe", "x.html", "x.svg"])
    def test_given_unknown_bytes_and_name_then_the_type_is_octet_stream(self, name: str) -> None:
        assert detect_content_type(name, b"plain") == "application/octet-stream"

    @limits(deadline=None)
    @given(st.text(), st.binary(max_size=64))
    def test_given_any_name_and_bytes_then_a_well_formed_content_type_comes_out(
        self, name: str, head: bytes
    ) -> None:
        content_type = detect_content_type(name, head)
        assert re.fullmatch(r"[a-z]+/[A-Za-z0-9.+-]+(; charset=utf-8)?", content_type)
