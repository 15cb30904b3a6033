from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from careflow_storage import content_types, recordings
from careflow_storage.errors import InvalidInputError
from careflow_storage.recordings import (
    MAX_KEY_BYTES,
    MAX_SEGMENT_BYTES,
    recording_key,
    validate_key,
)

EPOCH_MS = 1_701_234_567_890


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


@pytest.mark.parametrize("name", ["DEFAULT_CONTENT_TYPES", "HEAD_BYTES", "detect_content_type"])
def test_names_that_moved_to_content_types_load_from_here_with_a_warning(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"careflow_storage\.content_types\.{name}"):
        assert getattr(recordings, name) is getattr(content_types, name)
