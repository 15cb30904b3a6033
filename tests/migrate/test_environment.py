"""Variables for AWS S3 are translated, and those that cannot be are named."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage import InvalidInputError, StorageError, StorageSettings
from careflow_storage._env_file import read_env, updated_env, variables_of, write_env
from careflow_storage.migrate import Translation, translate_environment, write_translation

SECRET = "K004abcdefghijklmnopqrstuvwxyz/+"[:31]
ON_B2 = {
    "AWS_ACCESS_KEY_ID": "0041ddb399951ed0000000001",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "us-west-004",
    "AWS_S3_BUCKET": "careflow-recordings-prod",
    "AWS_ENDPOINT": "https://s3.us-west-004.backblazeb2.com",
}
ON_AWS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AWS_REGION": "eu-central-1",
    "AWS_S3_BUCKET": "recordings",
}


def carried(translation: Translation) -> dict[str, str]:
    return {each.variable: each.value.get_secret_value() for each in translation.carried}


def targets(translation: Translation) -> dict[str, str | None]:
    return {each.old_variable or "": each.variable for each in translation.unresolved}


def names_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


# --- translating --------------------------------------------------------------------------


def test_settings_of_old_code_that_used_b2_carry_over_by_the_migration_table() -> None:
    translation = translate_environment(ON_B2)
    assert carried(translation) == {
        "BACKBLAZE_KEY_ID": ON_B2["AWS_ACCESS_KEY_ID"],
        "BACKBLAZE_APPLICATION_KEY": SECRET,
        "BACKBLAZE_BUCKET_NAME": "careflow-recordings-prod",
        "BACKBLAZE_ENDPOINT": ON_B2["AWS_ENDPOINT"],
        "BACKBLAZE_REGION": "us-west-004",
    }
    assert translation.unresolved == ()
    assert translation.missing == ()


def test_what_belongs_to_aws_is_named_with_what_to_put_there() -> None:
    translation = translate_environment(ON_AWS)
    assert carried(translation) == {}
    assert targets(translation) == {
        "AWS_ACCESS_KEY_ID": "BACKBLAZE_KEY_ID",
        "AWS_SECRET_ACCESS_KEY": "BACKBLAZE_APPLICATION_KEY",
        "AWS_S3_BUCKET": "BACKBLAZE_BUCKET_NAME",
        "AWS_REGION": "BACKBLAZE_REGION",
    }
    assert all(each.problem and each.put for each in translation.unresolved)
    assert translation.missing == (
        "BACKBLAZE_KEY_ID",
        "BACKBLAZE_APPLICATION_KEY",
        "BACKBLAZE_BUCKET_NAME",
        "BACKBLAZE_ENDPOINT",
    )


def test_an_endpoint_of_aws_does_not_carry_over() -> None:
    translation = translate_environment(
        ON_AWS | {"AWS_ENDPOINT": "https://s3.eu-central-1.amazonaws.com"}
    )
    assert carried(translation) == {}
    assert targets(translation)["AWS_ENDPOINT"] == "BACKBLAZE_ENDPOINT"


def test_a_key_of_aws_at_the_endpoint_of_b2_is_left_out_and_its_place_kept() -> None:
    translation = translate_environment(ON_B2 | {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"})
    assert carried(translation).keys() == {
        "BACKBLAZE_BUCKET_NAME",
        "BACKBLAZE_ENDPOINT",
        "BACKBLAZE_REGION",
    }
    assert translation.missing == ("BACKBLAZE_KEY_ID", "BACKBLAZE_APPLICATION_KEY")


def test_another_server_keeps_the_names_of_awss_regions() -> None:
    minio = {
        "AWS_ACCESS_KEY_ID": "minioadmin",
        "AWS_SECRET_ACCESS_KEY": "minioadmin",
        "AWS_REGION": "us-east-1",
        "AWS_S3_BUCKET": "calls",
        "AWS_ENDPOINT": "http://localhost:9000",
    }
    translation = translate_environment(minio)
    assert list(carried(translation).values()) == [
        *("minioadmin", "minioadmin", "calls", "http://localhost:9000", "us-east-1"),
    ]
    assert translation.unresolved == ()


def test_a_region_that_contradicts_the_endpoint_is_left_to_it() -> None:
    translation = translate_environment(ON_B2 | {"AWS_REGION": "us-east-1"})
    assert "BACKBLAZE_REGION" not in carried(translation)
    assert targets(translation) == {"AWS_REGION": "BACKBLAZE_REGION"}
    assert translation.missing == ()


def test_the_master_key_is_refused_here_and_not_by_the_server() -> None:
    translation = translate_environment(ON_B2 | {"AWS_ACCESS_KEY_ID": "1ddb399951ed"})
    assert "master key" in translation.unresolved[0].problem


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("AWS_DEFAULT_REGION", "BACKBLAZE_REGION"),
        ("AWS_ENDPOINT_URL", "BACKBLAZE_ENDPOINT"),
        ("AWS_ENDPOINT_URL_S3", "BACKBLAZE_ENDPOINT"),
        ("S3_BUCKET", "BACKBLAZE_BUCKET_NAME"),
        ("AWS_BUCKET", "BACKBLAZE_BUCKET_NAME"),
        ("AWS_STORAGE_BUCKET_NAME", "BACKBLAZE_BUCKET_NAME"),
    ],
)
def test_common_synonyms_are_understood(old: str, new: str) -> None:
    names = {"BACKBLAZE_REGION": "AWS_REGION", "BACKBLAZE_ENDPOINT": "AWS_ENDPOINT"}
    name = names.get(new, "AWS_S3_BUCKET")
    variables = {old if each == name else each: value for each, value in ON_B2.items()}
    translation = translate_environment(variables)
    assert carried(translation)[new] == ON_B2[name]
    assert {each.variable: each.taken_from for each in translation.carried}[new] == old


def test_two_synonyms_with_different_values_are_reported() -> None:
    translation = translate_environment(ON_B2 | {"S3_BUCKET": "another"})
    assert carried(translation)["BACKBLAZE_BUCKET_NAME"] == "careflow-recordings-prod"
    assert targets(translation) == {"S3_BUCKET": "BACKBLAZE_BUCKET_NAME"}


def test_what_backblaze_has_already_wins_and_no_pair_is_mixed() -> None:
    translation = translate_environment(
        ON_B2 | {"BACKBLAZE_KEY_ID": "004000000000000000000000a", "backblaze_region": "eu-x"}
    )
    assert carried(translation).keys() == {"BACKBLAZE_BUCKET_NAME"}
    assert translation.kept == ("BACKBLAZE_KEY_ID", "BACKBLAZE_REGION")
    assert translation.missing == ("BACKBLAZE_APPLICATION_KEY",)
    assert targets(translation) == {"AWS_SECRET_ACCESS_KEY": "BACKBLAZE_APPLICATION_KEY"}


def test_variables_without_a_counterpart_are_explained() -> None:
    translation = translate_environment(ON_B2 | {"AWS_SESSION_TOKEN": "x", "AWS_PROFILE": "y"})
    assert targets(translation) == {"AWS_SESSION_TOKEN": None, "AWS_PROFILE": None}


def test_no_secret_is_shown() -> None:
    translation = translate_environment(ON_B2)
    assert "BACKBLAZE_APPLICATION_KEY=********\n" in translation.preview
    assert "BACKBLAZE_BUCKET_NAME=careflow-recordings-prod\n" in translation.preview
    for text in (translation.preview, repr(translation), translation.model_dump_json()):
        assert SECRET not in text


_words = st.sampled_from([*ON_B2.values(), *ON_AWS.values(), "", " ", "https://[", "x", "é\n"])
_names = st.sampled_from(
    [*ON_B2, "S3_BUCKET", "AWS_PROFILE", "BACKBLAZE_KEY_ID", "BACKBLAZE_ENDPOINT", "OTHER"]
)


@given(st.dictionaries(_names, _words))
def test_any_environment_translates_and_never_mixes_pairs_nor_takes_awss_keys(
    variables: dict[str, str],
) -> None:
    translation = translate_environment(variables)
    found = carried(translation)
    assert not found.keys() & set(translation.kept)
    if "BACKBLAZE_APPLICATION_KEY" in found:
        assert "BACKBLAZE_KEY_ID" in found
    # Another S3 server may have key IDs of any form.
    endpoint = variables.get("BACKBLAZE_ENDPOINT", "").strip() or found.get("BACKBLAZE_ENDPOINT")
    if not endpoint or "backblazeb2" in endpoint:
        assert not found.get("BACKBLAZE_KEY_ID", "").startswith("AKIA")
    assert "amazonaws" not in found.get("BACKBLAZE_ENDPOINT", "")
    assert not set(translation.missing) & (found.keys() | set(translation.kept))


# --- writing ------------------------------------------------------------------------------

OLD_FILE = (
    "# CareFlow\r\nexport AWS_ACCESS_KEY_ID=0041ddb399951ed0000000001 # prod\r\n"
    f'AWS_SECRET_ACCESS_KEY="{SECRET}"\r\n\r\nMULTI="a\nb"\r\nAWS_S3_BUCKET=calls-prod\r\n'
    "AWS_ENDPOINT=https://s3.us-west-004.backblazeb2.com"
)


async def test_a_file_keeps_every_byte_and_gets_the_new_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "settings.env"
    path.write_bytes(OLD_FILE.encode())
    translation = translate_environment(path)
    assert path.read_bytes() == OLD_FILE.encode()
    await write_translation(translation, path)
    assert path.read_bytes().startswith(OLD_FILE.encode() + b"\r\n")
    assert path.read_bytes().endswith(
        b"BACKBLAZE_ENDPOINT=https://s3.us-west-004.backblazeb2.com\r\n"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names_in(tmp_path) == ["settings.env"]
    settings = StorageSettings(_env_file=path)
    assert settings.is_configured
    assert settings.application_key is not None
    assert settings.application_key.get_secret_value() == SECRET
    # Nothing is left to carry over.
    again = translate_environment(path)
    assert (again.carried, again.unresolved, again.missing) == ((), (), ())
    with pytest.raises(InvalidInputError, match=r"has BACKBLAZE_APPLICATION_KEY, .* already"):
        await write_translation(translation, path)


async def test_a_new_file_is_made_for_the_variables_of_the_process(tmp_path: Path) -> None:
    await write_translation(translate_environment(ON_B2))
    assert variables_of((tmp_path / ".env").read_text()) == carried(translate_environment(ON_B2))


async def test_nothing_to_carry_over_makes_no_file(tmp_path: Path) -> None:
    await write_translation(translate_environment(ON_AWS))
    assert names_in(tmp_path) == []


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"none\.env .* the file does not exist"):
        translate_environment(tmp_path / "none.env")
    (tmp_path / "utf16.env").write_bytes("AWS_REGION=x".encode("utf-16"))
    with pytest.raises(InvalidInputError, match=r"utf16\.env is not UTF-8 text"):
        translate_environment(tmp_path / "utf16.env")
    with pytest.raises(InvalidInputError, match="is not a file"):
        translate_environment(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a privilege")
def test_a_link_stays_a_link_and_its_target_changes(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / ".env").write_text("A=1\n")
    (tmp_path / ".env").symlink_to(shared / ".env")
    write_env(tmp_path / ".env", {"B": "2"})
    assert (tmp_path / ".env").is_symlink()
    assert (shared / ".env").read_text() == "A=1\nB=2\n"


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root gives files to others"
)
def test_a_file_of_the_service_stays_its_own_when_root_changes_it(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=1\n")
    os.chown(path, 12345, 23456)
    write_env(path, {"A": "2"})
    owner = path.stat()
    assert (owner.st_uid, owner.st_gid) == (12345, 23456)
    assert path.read_text() == "A=2\n"


def test_a_failure_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".env"
    path.write_text("A=1\n")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os if step == "fsync" else Path, step, fail)
            with pytest.raises(StorageError, match=r"\.env cannot be written \(No space left"):
                write_env(path, {"A": "2"})
        assert path.read_text() == "A=1\n"
        assert names_in(tmp_path) == [".env"]
    with pytest.raises(InvalidInputError, match="the folder does not exist"):
        write_env(tmp_path / "none" / ".env", {"A": "2"})
    with pytest.raises(InvalidInputError, match="is not a file"):
        write_env(tmp_path, {"A": "2"})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "A=new\n"),
        ("A=old", "A=new"),
        ("A = old # why\n", "A = new # why\n"),
        ("A='old # no' # why\r\nB=1\r\n", "A=new # why\r\nB=1\r\n"),
        ('export A="o\\"l\nd"\n', "export A=new\n"),
        ("A=1\n\n# text\nA=2\n", "A=new\n\n# text\nA=new\n"),
        ("a=1\n", "a=new\n"),
        ("A\n", "A=new\n"),
        ("A=\n", "A=new\n"),
        ("A= # none\n", "A= new # none\n"),
        ("\ufeffA=1\n", "\ufeffA=new\n"),
        ("# A=1\n", "# A=1\nA=new\n"),
        ("AA=1\nbroken 'line\n", "AA=1\nbroken 'line\nA=new\n"),
    ],
)
def test_a_variable_keeps_its_place_and_its_comment(before: str, after: str) -> None:
    assert updated_env(before, {"A": "new"}) == after


@pytest.mark.parametrize(
    ("name", "value"),
    [("A", "line\nbreak"), ("A", "${HOME}"), ("A B", "x"), ("", "x"), ("A", None), ("A=B", "x")],
)
def test_what_cannot_be_written_so_that_it_is_read_back_is_refused(
    name: str, value: str, tmp_path: Path
) -> None:
    path = tmp_path / ".env"
    with pytest.raises(InvalidInputError):
        write_env(path, {name: value})
    assert not path.exists()


_lines = st.lists(
    st.sampled_from(
        ["A=1", "B='x # y' # c", "export C=2", "", "# text", "D", 'E="a\nb"', "'", "a = 3", " F= 4"]
    )
)


@given(
    _lines, st.sampled_from(["\n", "\r\n"]), st.text(st.characters(min_codepoint=32), max_size=9)
)
def test_what_is_set_is_read_back_and_all_else_stays(
    lines: list[str], line_end: str, value: str
) -> None:
    before = line_end.join(lines)
    try:
        after = updated_env(before, {"A": value, "NEW": "x"})
    except InvalidInputError:
        assert "${" in value or "\x7f" in value or "'" in lines
        return
    found = {name.upper(): each for name, each in variables_of(after).items()}
    assert (found["A"], found["NEW"]) == (value, "x")
    kept = {name: each for name, each in variables_of(before).items() if name.upper() != "A"}
    assert kept.items() <= variables_of(after).items()
    assert updated_env(after, {"A": value, "NEW": "x"}) == after


def test_a_file_is_read_as_the_settings_read_it(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("\ufeffA=1\nB\nC='${A}'\n", encoding="utf-8")
    assert read_env(path) == {"A": "1", "C": "1"}
