"""Where a setting is from: every place in which it can stand, and never a secret shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage import InvalidInputError, StorageSettings
from careflow_storage.doctor.setting_sources import (
    SettingOrigin,
    masked,
    places_searched,
    settings_problems,
    settings_with_origin,
)

SECRET = "K004abcdefghijklmnopqrstuvwxyz1"


def origin(name: str, origins: list[SettingOrigin]) -> SettingOrigin:
    return next(each for each in origins if each.name == name)


def test_each_place_is_named_and_those_that_it_hides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKBLAZE_BUCKET_NAME", "from-environment")
    (tmp_path / ".env").write_text(
        f"BACKBLAZE_BUCKET_NAME=from-file\nBACKBLAZE_APPLICATION_KEY={SECRET}\n"
        "AWS_ACCESS_KEY_ID=unused\n"
    )
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "backblaze_key_id").write_text("0041234567890ab0000000001\n")
    monkeypatch.setenv("AWS_REGION", "us-west-004")
    found = settings_with_origin(_secrets_dir=folder, part_size=6_000_000)
    bucket = origin("bucket_name", found)
    assert (bucket.value, bucket.source) == ("from-environment", "environment")
    assert bucket.where == "BACKBLAZE_BUCKET_NAME in the environment"
    assert bucket.shadowed == (f"BACKBLAZE_BUCKET_NAME in {tmp_path / '.env'}",)
    key_id = origin("key_id", found)
    assert (key_id.value, key_id.source) == ("0041234567890ab0000000001", "secrets")
    assert str(folder) in key_id.where
    application_key = origin("application_key", found)
    assert (application_key.value, application_key.source) == (
        "K00…z1 (31 characters)",
        "env_file",
    )
    region = origin("region", found)
    assert (region.source, region.where) == ("environment", "AWS_REGION in the environment")
    endpoint = origin("endpoint", found)
    assert endpoint.source == "derived"
    assert endpoint.value == "https://s3.us-west-004.backblazeb2.com"
    assert origin("part_size", found).source == "code"
    assert origin("checksum", found).source == "default"
    assert [each.name for each in found][:3] == ["key_id", "application_key", "bucket_name"]
    assert {each.name for each in found} == set(StorageSettings.model_fields)


def test_of_settings_made_elsewhere_it_says_what_code_has_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BACKBLAZE_REGION", "us-west-004")
    monkeypatch.setenv("BACKBLAZE_BUCKET_NAME", "from-environment")
    monkeypatch.setenv("BACKBLAZE_IDLE_TIMEOUT", "30")
    found = settings_with_origin(StorageSettings(bucket_name="from-the-code"))
    assert origin("bucket_name", found).source == "code"
    assert origin("bucket_name", found).value == "from-the-code"
    assert origin("region", found).source == "environment"
    assert origin("idle_timeout", found).source == "environment"
    assert origin("key_id", found).source == "missing"


def test_what_is_malformed_is_explained_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKBLAZE_KEY_ID", SECRET)
    monkeypatch.setenv("BACKBLAZE_PART_SIZE", "much")
    found = settings_with_origin()
    key_id = origin("key_id", found)
    assert key_id.value is None
    assert "swapped" in str(key_id.problem)
    assert "BACKBLAZE_PART_SIZE" in str(origin("part_size", found).problem)
    assert len(settings_problems()) == 2
    assert SECRET not in str(found)


def test_the_places_that_are_searched_are_told(tmp_path: Path) -> None:
    assert places_searched() == ("the environment", f"{tmp_path / '.env'} (no such file)")
    (tmp_path / "prod.env").write_text("")
    assert places_searched(_env_file="prod.env")[1] == str(tmp_path / "prod.env")
    assert places_searched(_env_file=None) == ("the environment",)


def test_a_file_that_is_no_text_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfeB\0")
    with pytest.raises(InvalidInputError, match="UTF-8"):
        settings_with_origin()


@given(st.text(min_size=1, max_size=60))
def test_of_a_secret_five_characters_are_shown_at_most(secret: str) -> None:
    shown = masked(secret).rpartition(" (")[0]
    assert len(shown.replace("…", "")) <= 5
    unit = "character" if len(secret) == 1 else "characters"
    assert masked(secret).endswith(f"({len(secret)} {unit})")
    if len(secret) < 20:
        assert shown == "…"
