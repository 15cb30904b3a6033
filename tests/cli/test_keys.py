"""Application keys by the command: create, list, rotate, finish, delete."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.testing import B2Server
from tests.support.command import Command, Ran


@pytest.fixture
def command(server: B2Server) -> Command:
    return Command(server.settings())


def variables(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


async def made(command: Command, *arguments: str) -> tuple[str, str]:
    """A new key's ID and secret."""
    ran = await command("keys", "create", "made-here", *arguments, "--json")
    assert ran.code == 0, ran.err
    return ran.json["key_id"], ran.json["application_key"]


async def names(command: Command) -> list[str]:
    return [each["name"] for each in (await command("keys", "list", "--json")).items]


def hides(ran: Ran, secret: str) -> bool:
    return secret not in ran.out + ran.err


# --- create -----------------------------------------------------------------------------


async def test_a_new_key_is_printed_once_and_works(command: Command, server: B2Server) -> None:
    ran = await command("keys", "create", "careflow-prod", "--preset", "app")
    assert ran.code == 0
    found = variables(ran.out)
    assert "not shown again" in ran.err
    assert found["BACKBLAZE_APPLICATION_KEY"] not in ran.err
    settings = server.settings(
        key_id=found["BACKBLAZE_KEY_ID"], application_key=found["BACKBLAZE_APPLICATION_KEY"]
    )
    async with BackblazeStorage(settings) as storage:
        await storage.upload_file("a.txt", b"a")


async def test_a_key_is_limited_to_the_bucket_of_the_settings_by_default(
    command: Command, server: B2Server
) -> None:
    ran = await command("keys", "create", "one-bucket", "--preset", "analytics", "--json")
    assert ran.json["bucket_names"] == [server.bucket]
    ran = await command("keys", "create", "all", "--preset", "analytics", "--all-buckets", "--json")
    assert ran.json["bucket_names"] is None


async def test_capabilities_prefix_and_expiry_are_those_that_were_asked_for(
    command: Command,
) -> None:
    ran = await command(
        *("keys", "create", "reader", "--capability", "readFiles", "--capability", "listFiles"),
        *("--prefix", "recordings/", "--expires", "2w", "--json"),
    )
    assert ran.json["capabilities"] == ["listFiles", "readFiles"]
    assert ran.json["prefix"] == "recordings/"
    assert ran.json["expires_at"] is not None


async def test_a_key_that_goes_to_a_file_is_printed_nowhere(
    command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "prod.env"
    file.write_text("# ours\nOTHER=1\n")
    for json in ([], ["--json"]):
        ran = await command(
            *("keys", "create", "careflow-prod", "--preset", "app", "--env-file", file, "--yes"),
            *json,
        )
        assert ran.code == 0
        secret = variables(file.read_text().partition("\n")[2])["BACKBLAZE_APPLICATION_KEY"]
        assert hides(ran, secret)
    assert file.read_text().startswith("# ours\nOTHER=1\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_key_in_the_file_is_replaced_only_after_a_yes(
    command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "prod.env"
    file.write_text("BACKBLAZE_KEY_ID=old\n")
    arguments = ("keys", "create", "careflow-prod", "--preset", "app", "--env-file", file)
    ran = await command(*arguments, stdin="n\n")
    assert ran.code == 1
    assert "has the key old" in ran.err
    assert (await command(*arguments, stdin="")).code == 2
    assert file.read_text() == "BACKBLAZE_KEY_ID=old\n"
    assert await names(command) == ["emulator"]
    assert (await command(*arguments, stdin="y\n")).code == 0
    assert "old" not in file.read_text()


async def test_a_file_that_cannot_be_written_leaves_no_key_behind(
    command: Command, tmp_path: Path
) -> None:
    ran = await command(
        *("keys", "create", "x", "--preset", "app", "--env-file", tmp_path / "no" / ".env")
    )
    assert ran.code == 2
    assert await names(command) == ["emulator"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "--preset"),
        (("--preset", "app", "--capability", "readFiles"), "--preset"),
        (("--preset", "owner"), "owner"),
        (("--capability", "readfiles"), "readfiles"),
        (("--preset", "app", "--bucket", "a", "--all-buckets"), "--bucket"),
        (("--preset", "app", "--expires", "0d"), "0d"),
        (("--preset", "app", "--expires", "soon"), "soon"),
        (("--preset", "app", "--expires", "2000d"), "1000 days"),
    ],
)
async def test_what_cannot_be_a_key_is_refused_by_name(
    command: Command, arguments: tuple[str, ...], expected: str
) -> None:
    ran = await command("keys", "create", "careflow-prod", *arguments)
    assert ran.code == 2
    assert expected in ran.err


# --- signing in -------------------------------------------------------------------------


async def test_another_key_signs_in_with_a_secret_from_stdin_or_the_environment(
    command: Command, server: B2Server
) -> None:
    master = server.master_key
    ran = await command(
        "keys", "list", "--key-id", master.key_id, stdin=f"{master.application_key}\n"
    )
    assert ran.code == 0
    assert "emulator" in ran.out
    assert hides(ran, master.application_key)
    ran = await command(
        *("keys", "list"),
        BACKBLAZE_MASTER_KEY_ID=master.key_id,
        BACKBLAZE_MASTER_APPLICATION_KEY=master.application_key,
    )
    assert ran.code == 0


async def test_without_its_secret_the_other_key_is_refused(
    command: Command, server: B2Server
) -> None:
    ran = await command("keys", "list", "--key-id", server.master_key.key_id, stdin="")
    assert ran.code == 2
    assert "BACKBLAZE_MASTER_APPLICATION_KEY" in ran.err


async def test_a_wrong_secret_is_not_repeated(command: Command, server: B2Server) -> None:
    ran = await command("keys", "list", "--key-id", server.key.key_id, stdin="K004wrongwrong\n")
    assert ran.code == 4
    assert hides(ran, "K004wrongwrong")


# --- list, delete -----------------------------------------------------------------------


async def test_the_list_shows_the_rights_of_each_key_and_no_secret(command: Command) -> None:
    key_id, secret = await made(command, "--preset", "uploader", "--prefix", "in/")
    ran = await command("keys", "list")
    row = next(line for line in ran.lines if line.startswith(key_id))
    assert "uploader" in row
    assert "careflow-recordings-test/in/" in row
    assert "never expires" in row
    assert hides(ran, secret)


async def test_a_key_is_deleted_only_after_a_yes(command: Command) -> None:
    key_id, _ = await made(command, "--preset", "app")
    assert (await command("keys", "delete", key_id, stdin="n\n")).code == 1
    assert "made-here" in await names(command)
    ran = await command("keys", "delete", key_id, "--json", "--yes")
    assert ran.json["key_id"] == key_id
    assert await names(command) == ["emulator"]


async def test_the_key_of_the_settings_is_deleted_with_a_warning(
    command: Command, server: B2Server
) -> None:
    ran = await command("keys", "delete", server.key.key_id, stdin="\n")
    assert ran.code == 1
    assert "key of your settings" in ran.err


async def test_a_key_that_is_not_there_has_its_exit_code(command: Command) -> None:
    ran = await command("keys", "delete", "0040000000000000000000009", "--yes", "--json")
    assert ran.code == 3
    assert ran.error["type"] == "NoSuchApplicationKeyError"


# --- rotate -----------------------------------------------------------------------------


async def test_a_key_is_rotated_in_its_file_and_finish_deletes_the_old_one(
    command: Command, server: B2Server, tmp_path: Path
) -> None:
    file = tmp_path / "prod.env"
    await command("keys", "create", "careflow", "--preset", "app", "--env-file", file)
    old = variables(file.read_text())["BACKBLAZE_KEY_ID"]
    ran = await command("keys", "rotate", old, "--env-file", file)
    assert ran.code == 0, ran.err
    now = variables(file.read_text())
    assert now["BACKBLAZE_KEY_ID"] != old
    assert f"keys finish {now['BACKBLAZE_KEY_ID']}" in ran.err
    assert hides(ran, now["BACKBLAZE_APPLICATION_KEY"])
    ran = await command("keys", "finish", now["BACKBLAZE_KEY_ID"])
    assert f"({old})" in ran.err
    settings = server.settings(
        key_id=now["BACKBLAZE_KEY_ID"], application_key=now["BACKBLAZE_APPLICATION_KEY"]
    )
    async with BackblazeStorage(settings) as storage:
        assert await storage.list_files() == []
    ran = await command("keys", "finish", now["BACKBLAZE_KEY_ID"])
    assert ran.code == 0
    assert "no keys to delete" in ran.err


async def test_without_a_grace_the_old_key_is_deleted_at_once(
    command: Command, tmp_path: Path
) -> None:
    key_id, _ = await made(command, "--preset", "admin")
    ran = await command(
        "keys", "rotate", key_id, "--env-file", tmp_path / "a.env", "--grace", "0s", "--json"
    )
    assert ran.json["old_deleted"]
    assert ran.json["deleted"] == [key_id]


async def in_two_files(command: Command, tmp_path: Path) -> tuple[str, Path, Path]:
    """One key in the files of two services."""
    first, second = tmp_path / "svc-a.env", tmp_path / "svc-b.env"
    await command("keys", "create", "svc", "--preset", "app", "--env-file", first)
    second.write_text(first.read_text())
    return key_in(first), first, second


def key_in(file: Path) -> str:
    return variables(file.read_text())["BACKBLAZE_KEY_ID"]


async def ids(command: Command) -> list[str]:
    return [each["key_id"] for each in (await command("keys", "list", "--json")).items][1:]


async def test_a_second_replacement_of_a_key_is_made_only_after_a_yes(
    command: Command, tmp_path: Path
) -> None:
    old, first, second = await in_two_files(command, tmp_path)
    await command("keys", "rotate", old, "--env-file", first)
    for grace in ([], ["--grace", "0s"]):
        ran = await command("keys", "rotate", old, "--env-file", second, *grace, stdin="n\n")
        assert ran.code == 1
        assert f"{key_in(first)} was also created to replace {old}" in ran.err
    assert (await command("keys", "rotate", old, "--env-file", second, "--json")).code == 2
    assert await ids(command) == [old, key_in(first)]
    assert key_in(second) == old
    again = await command("keys", "rotate", old, "--env-file", first)
    assert again.code == 0, "the same call goes on, unasked"


async def test_finish_deletes_no_key_of_another_service_without_a_yes(
    command: Command, tmp_path: Path
) -> None:
    old, first, second = await in_two_files(command, tmp_path)
    await command("keys", "rotate", old, "--env-file", first)
    await command("keys", "rotate", old, "--env-file", second, "--yes")
    ran = await command("keys", "finish", key_in(second), stdin="n\n")
    assert ran.code == 1
    assert f"Delete {old}, {key_in(first)}?" in ran.err
    assert await ids(command) == [old, key_in(first), key_in(second)]
    assert (await command("keys", "finish", key_in(first))).code == 0
    assert await ids(command) == [key_in(first), key_in(second)]
    assert (await command("keys", "finish", key_in(second), "--json")).code == 2
    assert (await command("keys", "finish", key_in(second), "--yes")).code == 0
    assert await ids(command) == [key_in(second)]


@pytest.mark.parametrize("where", ["environment", "file"])
async def test_finish_asks_before_the_key_of_the_settings_goes(
    command: Command, server: B2Server, tmp_path: Path, where: str
) -> None:
    file = tmp_path / "own.env"
    rotated = await command("keys", "rotate", server.key.key_id, "--env-file", file)
    assert "is still the key of your settings" in rotated.err
    holder = tmp_path / "aws.env"
    holder.write_text(f"AWS_ACCESS_KEY_ID={server.key.key_id}\n" if where == "file" else "")
    ran = await command("--env-file", holder, "keys", "finish", key_in(file), stdin="n\n")
    assert ran.code == 1
    assert "the key of your settings (BACKBLAZE_KEY_ID in the environment)" in ran.err
    assert ("AWS_ACCESS_KEY_ID in" in ran.err) == (where == "file")
    assert server.key.key_id in [
        each["key_id"] for each in (await command("keys", "list", "--json")).items
    ]
    assert (await command("keys", "finish", key_in(file), "--yes")).code == 0


async def test_an_old_key_in_the_aws_names_is_reported_and_needs_a_yes(
    command: Command, tmp_path: Path
) -> None:
    old, secret = await made(command, "--preset", "app")
    file = tmp_path / "aws.env"
    text = f"AWS_ACCESS_KEY_ID={old}\nAWS_SECRET_ACCESS_KEY={secret}\n"
    file.write_text(text)
    ran = await command("keys", "rotate", old, "--env-file", file, "--grace", "0s", stdin="n\n")
    assert ran.code == 1
    assert f"AWS_ACCESS_KEY_ID in {file}" in ran.err
    assert file.read_text() == text
    ran = await command("keys", "rotate", old, "--env-file", file)
    assert ran.code == 0
    assert f"{old} is still the AWS_ACCESS_KEY_ID in {file}" in " ".join(ran.err.split())
    assert file.read_text().startswith(text)
    ran = await command("--env-file", file, "keys", "finish", key_in(file), stdin="n\n")
    assert ran.code == 1
    assert "AWS_ACCESS_KEY_ID" in ran.err
    assert old in await ids(command)


async def test_a_server_without_the_native_api_is_a_clear_error(
    command: Command, server: B2Server
) -> None:
    server.faults.always("b2_authorize_account", status=405, body=b"<?xml version='1.0'?><Error/>")
    for words in (["list"], ["finish", server.key.key_id]):
        ran = await command("keys", *words, "--json")
        assert ran.error["type"] == "NotSupportedError"
        assert "Backblaze B2" in ran.error["hint"]
