from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from careflow_storage.errors import InvalidInputError
from careflow_storage.recordings import (
    HEAD_BYTES,
    MAX_KEY_BYTES,
    MAX_SEGMENT_BYTES,
    detect_content_type,
    recording_key,
    validate_key,
)

DATA = Path(__file__).parent / "data"
EPOCH_MS = 1_701_234_567_890
REAL = {
    "greeting.webm": "audio/webm",
    "greeting.ogg": "audio/ogg",
    "greeting.wav": "audio/wav",
    "greeting.mp3": "audio/mpeg",
    "greeting.m4a": "audio/mp4",
}


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        [
            "a",
            "recordings/CA123/1701234567890-recording.webm",
            "with space+plus%25?#&='\"`<>|*",
            "aufnahme-größe-録音-🎙️",
            "a//b/",
            "/leading",
            "...",
            "a/.hidden/..twodots/b..c",
            "é" * (MAX_KEY_BYTES // 2),
        ],
    )
    def test_given_a_key_that_s3_can_hold_when_validated_then_it_is_unchanged(
        self, key: str
    ) -> None:
        assert validate_key(key) == key

    @pytest.mark.parametrize(
        ("key", "reason"),
        [
            ("", "empty"),
            ("a" * (MAX_KEY_BYTES + 1), "1025 bytes"),
            ("é" * (MAX_KEY_BYTES // 2) + "a", "1025 bytes"),
            ("a\nb", r"U\+000A at position 1"),
            ("a\x00", r"U\+0000"),
            ("\x7f", r"U\+007F"),
            ("a\ud83d", "surrogate pair at position 1"),
            ("..", "segment"),
            ("a/../b", "segment"),
            ("a/./b", "segment"),
            ("a/..", "segment"),
            ("./a", "segment"),
        ],
    )
    def test_given_a_key_that_s3_or_b2_refuses_when_validated_then_the_reason_is_told(
        self, key: str, reason: str
    ) -> None:
        with pytest.raises(InvalidInputError, match=reason):
            validate_key(key)

    @pytest.mark.parametrize("key", [None, b"key", 5, Path("a")])
    def test_given_something_else_than_a_str_when_validated_then_its_type_is_named(
        self, key: object
    ) -> None:
        with pytest.raises(InvalidInputError, match=type(key).__name__):
            validate_key(key)  # type: ignore[arg-type]  # the mistake under test

    def test_given_a_refused_key_then_the_error_is_a_value_error_and_prints(self) -> None:
        with pytest.raises(ValueError, match="surrogate") as caught:
            validate_key("\ud800")
        assert str(caught.value).encode()

    @limits(deadline=None)
    @given(st.text())
    def test_given_any_text_when_validated_then_it_is_kept_or_refused_with_a_typed_error(
        self, key: str
    ) -> None:
        try:
            assert validate_key(key) == key
        except InvalidInputError:
            return
        assert 1 <= len(key.encode()) <= MAX_KEY_BYTES
        assert not {".", ".."} & set(key.split("/"))
        assert not re.search(r"[\x00-\x1f\x7f]", key)


class TestRecordingKeys:
    def test_given_a_call_and_a_file_then_the_key_is_that_of_the_node_system(self) -> None:
        key = recording_key("CA123xyz", "recording.webm", EPOCH_MS)
        assert key == "recordings/CA123xyz/1701234567890-recording.webm"

    @pytest.mark.parametrize("position", ["call_id", "filename"])
    @pytest.mark.parametrize(
        "bad",
        [
            "",
            " ",
            "\u3000",
            ".",
            "..",
            "../CA124",
            "a/b",
            "/etc/passwd",
            "a\\b",
            "C:\\x",
            "a..b",
            "a\x00b",
            "a\nb",
            "a\r",
            "a\x1bb",
            "a\x7f",
            "a\x85b",
            "a\u2028b",
            "invoice\u202egpj.exe",
            "a\uffff",
            "a\udc80",
            "x" * (MAX_SEGMENT_BYTES + 1),
            "é" * (MAX_SEGMENT_BYTES // 2) + "xx",
        ],
    )
    def test_given_a_part_that_leaves_its_folder_or_disguises_itself_then_it_is_refused_by_name(
        self, position: str, bad: str
    ) -> None:
        parts = {"call_id": "CA1", "filename": "a.webm"} | {position: bad}
        with pytest.raises(InvalidInputError, match=f"^{position} "):
            recording_key(**parts, epoch_ms=EPOCH_MS)

    def test_given_a_filename_of_the_limit_with_its_time_then_it_fits_and_one_more_byte_not(
        self,
    ) -> None:
        longest = "x" * (MAX_SEGMENT_BYTES - len(f"{EPOCH_MS}-"))
        key = recording_key("CA1", longest, EPOCH_MS)
        assert len(key.split("/")[2]) == MAX_SEGMENT_BYTES
        with pytest.raises(InvalidInputError, match="237 bytes of UTF-8, 236 are allowed"):
            recording_key("CA1", longest + "x", EPOCH_MS)

    @pytest.mark.parametrize("epoch_ms", [-1, 1_701_234_567_890_000, True, 1.5, "1701234567890"])
    def test_given_a_time_that_is_no_milliseconds_then_it_is_refused(
        self, epoch_ms: object
    ) -> None:
        with pytest.raises(InvalidInputError, match="epoch_ms"):
            recording_key("CA1", "a.webm", epoch_ms)  # type: ignore[arg-type]  # under test

    @limits(deadline=None)
    @given(st.text(), st.text(), st.integers())
    def test_given_any_names_then_the_key_stays_in_the_folder_of_its_call_or_is_refused(
        self, call_id: str, filename: str, epoch_ms: int
    ) -> None:
        try:
            key = recording_key(call_id, filename, epoch_ms)
        except InvalidInputError:
            return
        assert validate_key(key) == key
        assert key.split("/") == ["recordings", call_id, f"{epoch_ms}-{filename}"]


class TestContentTypesOfRealRecordings:
    def test_given_the_recordings_of_the_tests_then_each_has_an_expected_type(self) -> None:
        assert {path.name for path in DATA.glob("greeting.*")} == set(REAL)

    @pytest.mark.parametrize(("name", "expected"), REAL.items())
    def test_given_a_recording_without_a_telling_name_then_its_bytes_tell(
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
    def test_given_a_recording_of_which_only_the_name_is_known_then_the_name_tells(
        self, name: str, expected: str
    ) -> None:
        assert detect_content_type(name.upper(), b"") == expected

    def test_given_an_mp3_without_its_tag_then_the_frame_tells(self) -> None:
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
    def test_given_neither_telling_bytes_nor_name_then_it_is_only_bytes(self, name: str) -> None:
        assert detect_content_type(name, b"plain") == "application/octet-stream"

    @limits(deadline=None)
    @given(st.text(), st.binary(max_size=64))
    def test_given_any_name_and_bytes_then_a_well_formed_content_type_comes_out(
        self, name: str, head: bytes
    ) -> None:
        content_type = detect_content_type(name, head)
        assert re.fullmatch(r"[a-z]+/[A-Za-z0-9.+-]+(; charset=utf-8)?", content_type)
