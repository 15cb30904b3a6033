"""The policy: sizes and types that browsers may upload."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from careflow_storage.browser import FileTooLargeError, FileTypeError, UploadPolicy
from careflow_storage.errors import InvalidInputError

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("allowed", "content_type"),
    [
        (("audio/*",), "audio/webm"),
        (("audio/*",), "AUDIO/WebM; codecs=opus"),
        (("audio/*",), "audio/webm;codecs=opus"),
        (("video/webm",), "video/webm"),
        (("*/*",), "audio/x-m4a"),
        (("text/html",), "text/html; charset=utf-8"),
        (("image/svg+xml",), "image/svg+xml"),
    ],
)
def test_given_an_allowed_type_then_it_passes(allowed: tuple[str, ...], content_type: str) -> None:
    UploadPolicy(content_types=allowed).check(size=1, content_type=content_type)


@pytest.mark.parametrize(
    ("allowed", "content_type"),
    [
        (("audio/*",), "video/webm"),
        (("video/webm",), "video/webmx"),
        (("audio/*",), "audio"),
        (("audio/*",), "audio/"),
        (("audio/*",), "audio/*"),
        (("audio/*",), ""),
        (("audio/*",), "audio/webm, text/html"),
        (("audio/*",), "audio/webm\r\nx-amz-acl: public-read"),
        (("*/*",), "text/html"),
        (("*/*",), "image/svg+xml"),
        (("image/*",), "image/svg+xml"),
        (("*/*",), "application/xhtml+xml"),
        (("*/*",), "application/javascript"),
        (("audio/*",), None),
    ],
)
def test_given_another_type_then_it_is_refused(allowed: tuple[str, ...], content_type: str) -> None:
    with pytest.raises(FileTypeError):
        UploadPolicy(content_types=allowed).check(size=1, content_type=content_type)


def test_a_file_of_the_largest_size_passes_and_one_byte_more_does_not() -> None:
    policy = UploadPolicy(max_size=100)
    policy.check(size=100, content_type="audio/wav")
    with pytest.raises(FileTooLargeError, match="101 bytes"):
        policy.check(size=101, content_type="audio/wav")


@pytest.mark.parametrize("size", [-1, 1.0, True, "5", None])
def test_what_is_no_size_is_refused(size: int) -> None:
    with pytest.raises(InvalidInputError, match="size"):
        UploadPolicy().check(size=size, content_type="audio/wav")


@pytest.mark.parametrize(
    "wrong",
    [
        {"content_types": ()},
        {"content_types": ("audio",)},
        {"content_types": ("au*/x",)},
        {"part_size": 5 * MIB - 1},
        {"max_size": 0},
        {"expires_in": 0},
        {"max_size": 10**15},
        {"max_sise": 5},
    ],
)
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        UploadPolicy.model_validate(wrong)


def test_parts_grow_where_ten_thousand_would_not_hold_the_file() -> None:
    policy = UploadPolicy(max_size=10**13, part_size=5 * MIB)
    assert policy.part_size_of(50_000 * MIB) == 5 * MIB
    assert policy.part_size_of(50_000 * MIB + 1) == 10 * MIB
