"""Files by the command: upload, download, cat, ls, info, exists, url, rm."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage._s3.signing.signer import Credentials
from careflow_storage.cli.ui.keyfile import read_customer_key
from careflow_storage.cli.ui.output import clean, json_text
from careflow_storage.cli.ui.values import parse_time
from careflow_storage.errors import InvalidInputError
from careflow_storage.local.client import SyncClient
from tests.support.command import Command

HOSTILE = "recordings/\x9b31m\u202egnp.wav"


@pytest.fixture
def command(settings: StorageSettings) -> Command:
    return Command(settings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some files, a hidden one, a hidden folder and a link."""
    folder = tmp_path / "folder"
    (folder / "CA1" / "deep").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "a.wav").write_bytes(b"aaa")
    (folder / "CA1" / "ü ☎.txt").write_bytes(b"unicode")
    (folder / "CA1" / "deep" / "b.wav").write_bytes(b"bb")
    (folder / ".hidden").write_bytes(b"h")
    (folder / ".git" / "config").write_bytes(b"c")
    (folder / "link").symlink_to("/etc/passwd")
    return folder


def put_hostile_keys(settings: StorageSettings, *keys: str) -> None:
    """Store what our own checks would refuse."""
    client = SyncClient(str(settings.endpoint), Credentials("test-key-id", "anything"))
    for key in keys:
        assert client.request("PUT", f"/{settings.bucket_name}/{key}", body=b"x").status == 200


async def keys_of(storage: BackblazeStorage) -> list[str]:
    return [file.key for file in await storage.list_files()]


# --- upload ---------------------------------------------------------------------------------


async def test_a_file_is_stored_under_its_name_and_only_the_key_goes_to_stdout(
    command: Command, storage: BackblazeStorage, tmp_path: Path
) -> None:
    (tmp_path / "call.wav").write_bytes(b"voice")
    ran = await command("upload", tmp_path / "call.wav")
    assert (ran.code, ran.out) == (0, "call.wav\n")
    assert "Uploaded 1 file, 5 bytes" in ran.err
    assert await storage.get_file("call.wav") == b"voice"


async def test_a_recording_of_a_call_gets_the_key_of_a_recording(
    command: Command, storage: BackblazeStorage, recordings: dict[str, Path]
) -> None:
    ran = await command(
        *("upload", recordings["greeting.webm"], "--call-id", "CA123", "--metadata", "agent=7"),
        *("--name", "call.webm", "--recorded-at", "2026-11-24T12:00:00+00:00", "--json"),
    )
    assert ran.json["key"] == "recordings/CA123/1795521600000-call.webm"
    assert ran.json["path"] == str(recordings["greeting.webm"])
    found = await storage.get_file_metadata(ran.json["key"])
    assert (found.content_type, found.metadata) == ("audio/webm", {"agent": "7"})


async def test_a_folder_is_stored_with_its_folders_and_without_what_is_hidden_or_a_link(
    command: Command, storage: BackblazeStorage, folder: Path
) -> None:
    ran = await command("upload", folder, "--prefix", "recordings/2026")
    assert ran.code == 0
    assert sorted(ran.lines) == [
        "recordings/2026/CA1/deep/b.wav",
        "recordings/2026/CA1/ü ☎.txt",
        "recordings/2026/a.wav",
    ]
    assert "Skipped: 2 hidden, 1 symbolic links." in ran.err
    assert "Uploaded 3 files, 12 bytes" in ran.err
    assert sorted(ran.lines) == await keys_of(storage)


async def test_a_link_that_is_named_itself_is_followed(command: Command, tmp_path: Path) -> None:
    (tmp_path / "target.wav").write_bytes(b"voice")
    (tmp_path / "link.wav").symlink_to("target.wav")
    ran = await command("upload", tmp_path / "link.wav")
    assert ran.lines == ["link.wav"]


async def test_what_comes_through_a_pipe_is_stored_under_the_given_key(
    command: Command, storage: BackblazeStorage
) -> None:
    ran = await command("upload", "-", "--key", "piped.bin", stdin=b"\x00\xff" * 1000)
    assert ran.lines == ["piped.bin"]
    assert await storage.get_file("piped.bin") == b"\x00\xff" * 1000


async def test_one_file_that_fails_does_not_stop_the_others(
    command: Command, storage: BackblazeStorage, folder: Path
) -> None:
    (folder / ("x" * 255)).write_bytes(b"x")
    ran = await command("upload", folder, "--prefix", "p" * 800)
    assert ran.code == 1
    assert len(await keys_of(storage)) == 3
    assert "1 of 4 files failed" in ran.err
    ran = await command("upload", folder, "--prefix", "p" * 800, "--json")
    (failed,) = (item for item in ran.items if "error" in item)
    assert failed["path"] == str(folder / ("x" * 255))
    assert failed["error"]["type"] == "InvalidInputError"


async def test_no_overwrite_keeps_existing_files_and_reports_them(
    command: Command, storage: BackblazeStorage, folder: Path
) -> None:
    await storage.upload_file("a.wav", b"older")
    ran = await command("upload", folder, "--no-overwrite")
    assert ran.code == 1
    assert "PreconditionFailedError" in ran.err
    assert await storage.get_file("a.wav") == b"older"
    assert len(await keys_of(storage)) == 3


async def test_no_overwrite_stores_a_recording_once(
    command: Command, storage: BackblazeStorage, folder: Path
) -> None:
    recording = ("--call-id", "CA1", "--recorded-at", "2026-11-24T12:00:00+00:00")
    first = await command("upload", folder / "a.wav", *recording, "--no-overwrite")
    assert first.lines == await keys_of(storage)
    again = await command("upload", folder / "a.wav", *recording, "--no-overwrite")
    assert again.code == 1
    assert "PreconditionFailedError" in again.err
    assert await keys_of(storage) == first.lines


async def test_a_dry_run_prints_the_keys_and_stores_nothing(
    command: Command, storage: BackblazeStorage, folder: Path
) -> None:
    ran = await command("upload", folder, "--prefix", "p/", "--dry-run")
    assert f"{folder / 'a.wav'} -> p/a.wav" in ran.lines
    ran = await command("upload", folder, "--dry-run", "--json")
    assert {item["key"] for item in ran.items} == {"a.wav", "CA1/ü ☎.txt", "CA1/deep/b.wav"}
    assert await keys_of(storage) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.wav", "b.wav", "--key", "k"], "--key is for one file"),
        (["a.wav", "--key", "k", "--prefix", "p"], "cannot be used together"),
        (["a.wav", "--name", "n"], "need --call-id"),
        (["a.wav", "--call-id", "c", "--no-overwrite"], "--no-overwrite with --call-id"),
        (["a.wav", "--call-id", "c", "--resume"], "--recorded-at"),
        (["a.wav", "--call-id", "../x"], "call_id"),
        (["a.wav", "--key", "../x"], "'..'"),
        (["a.wav", "--metadata", "agent"], "NAME=VALUE"),
        (["a.wav", "same/a.wav"], "would get the same key"),
        (["-"], "has no name"),
        (["-", "a.wav"], "cannot be combined"),
        (["-", "--key", "k", "--resume"], "cannot be resumed"),
        (["nowhere.wav"], "nowhere.wav"),
        (
            ["a.wav", "--encryption", "SSE-B2", "--customer-key-file", "a.wav"],
            "cannot be used together",
        ),
        (["a.wav", "--customer-key-file", "a.wav"], "must hold 32 bytes, or their base64"),
    ],
)
async def test_contradictory_options_are_refused_before_any_request(
    command: Command, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "same").mkdir()
    for name in ("a.wav", "b.wav", "same/a.wav"):
        (tmp_path / name).write_bytes(b"voice")
    # Whoever sends anything fails otherwise.
    ran = await command("upload", *arguments, BACKBLAZE_ENDPOINT="http://127.0.0.1:9")
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_a_customer_key_is_read_as_bytes_or_base64(tmp_path: Path) -> None:
    key = bytes(range(32))
    path = tmp_path / "key"
    path.write_bytes(key)
    raw = read_customer_key(path)
    path.write_bytes(base64.b64encode(key) + b"\n")
    assert raw is not None
    assert read_customer_key(path) == raw
    path.write_text("secret-but-short")
    with pytest.raises(InvalidInputError) as refused:
        read_customer_key(path)
    assert "secret" not in str(refused.value)


async def test_a_file_encrypted_with_a_customer_key_needs_that_key(
    seaweed_settings: StorageSettings, tmp_path: Path
) -> None:
    # moto takes the key and stores in the open.
    command = Command(seaweed_settings)
    (tmp_path / "call.txt").write_text("voice")
    (tmp_path / "key").write_bytes(bytes(range(32)))
    with_key = ("--customer-key-file", "key")
    assert (await command("upload", "call.txt", *with_key)).code == 0
    assert (await command("cat", "call.txt", *with_key)).out == "voice"
    assert (await command("info", "call.txt", *with_key)).code == 0
    assert (await command("download", "call.txt", "copy.txt", *with_key)).code == 0
    without = await command("cat", "call.txt", "--json")
    assert (without.code, without.out) == (4, "")
    assert without.error["hint"]


# --- download and cat -----------------------------------------------------------------------


async def test_a_file_is_fetched_into_a_folder_under_its_last_segment(
    command: Command, storage: BackblazeStorage, tmp_path: Path
) -> None:
    await storage.upload_file("recordings/CA1/call.wav", b"voice")
    ran = await command("download", "recordings/CA1/call.wav")
    assert ran.lines == ["call.wav"]
    assert (tmp_path / "call.wav").read_bytes() == b"voice"
    ran = await command("download", "recordings/CA1/call.wav", "other.wav", "--json")
    assert (ran.json["path"], ran.json["verified"]) == ("other.wav", "md5")


async def test_an_existing_file_is_replaced_only_by_force(
    command: Command, storage: BackblazeStorage, tmp_path: Path
) -> None:
    await storage.upload_file("call.wav", b"new")
    (tmp_path / "call.wav").write_bytes(b"mine")
    ran = await command("download", "call.wav")
    assert ran.code == 2
    assert "--force" in ran.err
    assert (tmp_path / "call.wav").read_bytes() == b"mine"
    assert (await command("download", "call.wav", "--force")).code == 0
    assert (tmp_path / "call.wav").read_bytes() == b"new"


async def test_a_prefix_is_fetched_with_its_folders(
    command: Command, storage: BackblazeStorage, tmp_path: Path
) -> None:
    for key in ("recordings/CA1/a.wav", "recordings/CA1/deep/b.wav", "recordings/CA2/c.wav"):
        await storage.upload_file(key, key.encode())
    await storage.upload_file("recordings/CA1/empty/", b"")
    ran = await command("download", "--prefix", "recordings/CA1/", "out")
    assert ran.code == 0
    found = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "out").rglob("*.wav"))
    assert found == ["out/a.wav", "out/deep/b.wav"]
    assert sorted(ran.lines) == found
    again = await command("download", "--prefix", "recordings/CA1/", "out")
    assert again.code == 1
    assert "2 of 2 files failed" in again.err
    resumed = await command("download", "--prefix", "recordings/CA1/", "out", "--resume")
    assert resumed.code == 0
    assert resumed.out == ""


async def test_no_hostile_key_leaves_the_folder(
    command: Command, storage: BackblazeStorage, tmp_path: Path
) -> None:
    strange = ("p/good.wav", "p//etc/passwd", "p/a\\..\\b", "p/.bashrc")
    put_hostile_keys(storage.settings, *strange)
    ran = await command("download", "--prefix", "p/", "out", "--json")
    assert ran.code == 1
    by_key = {item["key"]: item for item in ran.items}
    assert by_key["p/good.wav"]["path"] == "out/good.wav"
    assert by_key["p/.bashrc"]["path"] == "out/_bashrc"
    for key in ("p//etc/passwd", "p/a\\..\\b"):
        assert "leave the folder" in by_key[key]["error"]["message"]
    written = sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert written == ["_bashrc", "good.wav"]
    assert not (tmp_path / "b").exists()


async def test_an_old_version_can_be_fetched(
    command: Command, storage: BackblazeStorage, tmp_path: Path
) -> None:
    old = await storage.upload_file("call.wav", b"old")
    await storage.upload_file("call.wav", b"new")
    await command("download", "call.wav", "--version-id", old.version_id)
    assert (tmp_path / "call.wav").read_bytes() == b"old"


@pytest.mark.parametrize("arguments", [[], ["k", "-"], ["a", "b", "--prefix", "p"]])
async def test_an_unclear_download_is_refused(command: Command, arguments: list[str]) -> None:
    assert (await command("download", *arguments)).code == 2


async def test_cat_writes_the_bytes_and_nothing_else(
    command: Command, storage: BackblazeStorage
) -> None:
    await storage.upload_file("numbers.txt", b"0123456789")
    assert (await command("cat", "numbers.txt")).out == "0123456789"
    assert (await command("cat", "numbers.txt", "--start", 2, "--end", 5)).out == "234"
    missing = await command("cat", "nowhere", "--json")
    assert (missing.code, missing.out) == (3, "")
    assert missing.error["type"] == "NoSuchKeyError"


# --- ls, info, exists, url ------------------------------------------------------------------


async def test_ls_prints_one_key_to_a_line_or_everything_as_json(
    command: Command, storage: BackblazeStorage
) -> None:
    keys = ["recordings/CA1/a.wav", "recordings/CA1/b/c.wav", "recordings/CA2/ü ☎.wav"]
    for key in keys:
        await storage.upload_file(key, b"x" * 2048)
    await storage.upload_file("other", b"")
    assert (await command("ls", "recordings/")).lines == keys
    listed = (await command("ls", "recordings/", "--json")).items
    assert [(item["key"], item["size"]) for item in listed] == [(key, 2048) for key in keys]
    long = await command("ls", "recordings/", "--long")
    assert long.lines[0].split() == ["2048", *long.lines[0].split()[1:4], keys[0]]
    assert "3 files, 6.0 KiB" in long.err
    human = await command("ls", "recordings/", "-l", "-h")
    assert human.lines[0].startswith("   2.0 KiB  ")


async def test_ls_draws_the_folders_as_a_tree(command: Command, storage: BackblazeStorage) -> None:
    for key in ("r/CA1/a", "r/CA1/deep/b", "r/CA2/c", "top"):
        await storage.upload_file(key, b"x" * 1024)
    assert (await command("ls", "--tree")).lines == [
        f"{storage.settings.bucket_name}/  4 files, 4.0 KiB",
        "└── r/  3 files, 3.0 KiB",
        "    ├── CA1/  2 files, 2.0 KiB",
        "    │   └── deep/  1 file, 1.0 KiB",
        "    └── CA2/  1 file, 1.0 KiB",
    ]
    assert len((await command("ls", "--tree", "--depth", 1)).lines) == 2
    folders = (await command("ls", "r/CA", "--tree", "--json")).items
    assert folders == [
        {"folder": "r/", "files": 3, "size": 3072},
        {"folder": "r/CA1/", "files": 2, "size": 2048},
        {"folder": "r/CA1/deep/", "files": 1, "size": 1024},
        {"folder": "r/CA2/", "files": 1, "size": 1024},
    ]


async def test_a_key_of_a_thousand_folders_has_a_tree_too(
    command: Command, storage: BackblazeStorage
) -> None:
    put_hostile_keys(storage.settings, "/" * 1000)
    assert len((await command("ls", "--tree")).lines) == 1001


async def test_no_key_controls_the_terminal_and_different_keys_stay_different(
    command: Command, storage: BackblazeStorage
) -> None:
    put_hostile_keys(storage.settings, HOSTILE)
    for arguments in (["ls"], ["ls", "-l"], ["versions"], ["ls", "--json"]):
        ran = await command(*arguments)
        assert "\x9b" not in ran.out
        assert "\u202e" not in ran.out
        assert "\\x9b31m\\u202egnp" in ran.out or "\\u009b31m\\u202egnp" in ran.out
    assert (await command("ls", "--json")).json["key"] == HOSTILE


def test_clean_escapes_control_characters_and_keeps_all_letters() -> None:
    assert clean("a\x1b[31m\nb\u202e") == r"a\x1b[31m\nb\u202e"
    letters = "ünï ☎ 录音 می\u200cخواهم 👩\u200d⚕"
    assert clean(letters) == letters
    assert json_text("\x9b") == r'"\u009b"'


async def test_a_key_that_ends_like_a_folder_is_not_mistaken_for_its_files(
    command: Command, storage: BackblazeStorage, tmp_path: Path
) -> None:
    await storage.upload_file("CA 1/", b"")
    await storage.upload_file("CA 1/call.wav", b"audio")
    for words in (["download", "CA 1/", tmp_path / "CA1"], ["rm", "CA 1/"]):
        ran = await command(*words)
        assert ran.code == 0
        assert "for those use --prefix 'CA 1/'" in ran.err
    assert "--prefix" not in (await command("rm", "CA 1/call.wav")).err


async def test_info_shows_what_the_server_knows(
    command: Command, storage: BackblazeStorage
) -> None:
    await storage.upload_file("call.wav", b"x" * 3000, "audio/wav", metadata={"agent": "7"})
    ran = await command("info", "call.wav")
    assert "3,000 (2.9 KiB)" in ran.out
    assert "agent: 7" in ran.out
    assert (await command("info", "call.wav", "--json")).json["size"] == 3000
    assert (await command("info", "nowhere")).code == 3


async def test_info_shows_what_the_recording_is(
    command: Command, storage: BackblazeStorage, recordings: dict[str, Path]
) -> None:
    await storage.upload_file("call.webm", recordings["greeting.webm"])
    ran = await command("info", "call.webm", "--media")
    assert "opus" in ran.out
    assert "7.34 s" in ran.out
    found = (await command("info", "call.webm", "--media", "--json")).json
    assert (found["content_type"], found["media"]["container"]) == ("audio/webm", "webm")
    assert found["media"]["seekable"] is True
    await storage.upload_file("notes.txt", b"text")
    refused = await command("info", "notes.txt", "--media", "--json")
    assert (refused.out, refused.error["type"]) == ("", "UnsupportedMediaError")


async def test_exists_prints_a_word_and_sets_the_exit_code(
    command: Command, storage: BackblazeStorage
) -> None:
    await storage.upload_file("call.wav", b"x")
    there, missing = await command("exists", "call.wav"), await command("exists", "nowhere")
    assert (there.code, there.out) == (0, "yes\n")
    assert (missing.code, missing.out) == (3, "no\n")
    assert (await command("exists", "nowhere", "--json")).json["exists"] is False


async def test_a_url_is_all_that_is_printed_and_it_works(
    command: Command, storage: BackblazeStorage
) -> None:
    await storage.upload_file("call.wav", b"voice")
    (url,) = (await command("url", "call.wav", "--expires", "15m")).lines
    assert "X-Amz-Expires=900" in url
    async with aiohttp.ClientSession() as browser, browser.get(URL(url, encoded=True)) as response:
        assert await response.read() == b"voice"
    put = (await command("url", "call.wav", "--method", "PUT", "--json")).json
    assert (put["method"], put["expires_in"]) == ("PUT", 3600)
    assert (await command("url", "call.wav", "--expires", "8d")).code == 2
    assert (await command("url", "call.wav", "--expires", "soon")).code == 2


def test_times_are_read_in_common_notations() -> None:
    assert [parse_time(text).total_seconds() for text in ("90s", "15m", "1.5h", "2d", "1w")] == [
        *(90, 900, 5400, 172_800, 604_800)
    ]


# --- rm -------------------------------------------------------------------------------------


async def test_rm_hides_a_file_and_says_that_its_versions_stay(
    command: Command, storage: BackblazeStorage
) -> None:
    await storage.upload_file("call.wav", b"x")
    assert "Would hide call.wav" in (await command("rm", "call.wav", "--dry-run")).out
    assert await storage.file_exists("call.wav")
    ran = await command("rm", "call.wav")
    assert ran.code == 0
    assert "its versions are kept" in ran.err
    assert not await storage.file_exists("call.wav")
    assert len(await storage.admin.list_file_versions("call.wav")) == 2
    assert (await command("rm", "call.wav")).code == 3


async def test_rm_of_several_files_continues_after_one_that_does_not_exist(
    command: Command, storage: BackblazeStorage
) -> None:
    for key in ("a.wav", "b.wav"):
        await storage.upload_file(key, b"x")
    ran = await command("rm", "a.wav", "nowhere", "b.wav", "--json")
    assert (ran.code, ran.error["key"]) == (3, "nowhere")
    assert [item["key"] for item in ran.items] == ["a.wav", "b.wav"]
    assert await keys_of(storage) == []


async def test_rm_of_one_version_asks_erases_it_and_touches_nothing_else(
    command: Command, storage: BackblazeStorage
) -> None:
    old = await storage.upload_file("call.wav", b"old")
    await storage.upload_file("call.wav", b"new")
    refused = await command("rm", "call.wav", "--version-id", old.version_id, stdin="n\n")
    assert refused.code == 1
    assert "nothing was changed" in refused.err
    assert len(await storage.admin.list_file_versions()) == 2
    done = await command("rm", "call.wav", "--version-id", old.version_id, stdin="y\n")
    assert done.code == 0
    assert len(await storage.admin.list_file_versions()) == 1
    assert await storage.get_file("call.wav") == b"new"


async def test_rm_of_all_versions_needs_the_key_typed(
    command: Command, storage: BackblazeStorage
) -> None:
    for body in (b"1", b"2"):
        await storage.upload_file("call.wav", body)
    assert (await command("rm", "call.wav", "--all-versions", stdin="y\n")).code == 1
    assert (await command("rm", "call.wav", "--all-versions", stdin="")).code == 2
    asked = await command("rm", "call.wav", "--all-versions", "--json")
    assert (asked.code, asked.error["hint"]) == (2, "To agree in advance, add --yes.")
    assert len(await storage.admin.list_file_versions()) == 2
    done = await command("rm", "call.wav", "--all-versions", stdin="call.wav\n")
    assert done.code == 0
    assert await storage.admin.list_file_versions() == []


async def test_rm_below_a_prefix_counts_before_it_asks(
    command: Command, storage: BackblazeStorage
) -> None:
    for key in ("r/CA1/a", "r/CA1/b", "r/CA2/c"):
        await storage.upload_file(key, b"x")
    refused = await command("rm", "--prefix", "r/CA1/", stdin="\n")
    assert refused.code == 1
    assert "Hide 2 files (2 bytes) below r/CA1/?" in refused.err
    assert (await command("rm", "--prefix", "r/CA1/", "--yes", "--json")).code == 0
    assert await keys_of(storage) == ["r/CA2/c"]
    erased = await command("rm", "--prefix", "r/CA1/", "--all-versions", stdin="r/CA1/\n")
    assert erased.code == 0
    assert {version.key for version in await storage.admin.list_file_versions()} == {"r/CA2/c"}


@pytest.mark.parametrize(
    "arguments", [[], ["k", "--prefix", "p"], ["a", "b", "--version-id", "v"], ["../k"]]
)
async def test_an_unclear_rm_is_refused(command: Command, arguments: list[str]) -> None:
    assert (await command("rm", *arguments, "--yes")).code == 2


# --- errors ---------------------------------------------------------------------------------


async def test_errors_are_an_object_on_stderr_with_json(command: Command) -> None:
    ran = await command("info", "nowhere", "--json")
    assert ran.out == ""
    assert (ran.error["type"], ran.error["key"], ran.error["status"]) == (
        *("NoSuchKeyError", "nowhere"),
        404,
    )
    unset = await command("ls", "--json", BACKBLAZE_BUCKET_NAME="")
    assert (unset.code, unset.error["type"]) == (2, "NotConfiguredError")
    assert "BACKBLAZE_BUCKET_NAME" in unset.error["message"]


async def test_no_error_shows_the_application_key(
    command: Command, settings: StorageSettings
) -> None:
    assert settings.application_key is not None
    secret = settings.application_key.get_secret_value()
    for arguments in (["ls", "--json"], ["ls"], ["info", "nowhere"]):
        ran = await command(
            *arguments, BACKBLAZE_ENDPOINT="http://127.0.0.1:9", BACKBLAZE_RETRY_ATTEMPTS="1"
        )
        assert ran.code == 1
        assert secret not in ran.err


@pytest.mark.slow
async def test_a_big_upload_through_the_command_arrives_whole(
    command: Command, storage: BackblazeStorage, tmp_path: Path
) -> None:
    body = os.urandom(1024) * 1024 * 18
    (tmp_path / "long.wav").write_bytes(body)
    ran = await command("upload", "long.wav", "--json")
    assert ran.json["parts"] > 1
    got = await storage.get_file("long.wav")
    assert hashlib.sha256(got).digest() == hashlib.sha256(body).digest()
