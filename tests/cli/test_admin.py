"""The bucket and the settings by the command: buckets, lock, config, migrate."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.testing import B2Server
from tests.support.command import Command


@pytest.fixture
def command(settings: StorageSettings) -> Command:
    return Command(settings)


@pytest.fixture
def b2(server: B2Server) -> Command:
    return Command(server.settings())


# --- buckets ----------------------------------------------------------------------------


async def test_a_bucket_is_created_shown_and_deleted(b2: Command) -> None:
    ran = await b2("buckets", "create", "--env", "prod")
    assert ran.code == 0, ran.err
    assert "encrypted (SSE-B2)" in ran.err
    assert "BACKBLAZE_BUCKET_NAME=careflow-recordings-prod" in ran.err
    names = [each["name"] for each in (await b2("buckets", "list", "--json")).items]
    assert "careflow-recordings-prod" in names
    info = (await b2("buckets", "info", "careflow-recordings-prod", "--json")).json
    assert info["encryption"] == "SSE-B2"
    assert info["unreadable"] == []
    ran = await b2(
        *("buckets", "delete", "careflow-recordings-prod"), stdin="careflow-recordings-prod\n"
    )
    assert ran.code == 0
    assert (await b2("buckets", "info", "careflow-recordings-prod")).code == 3


async def test_buckets_are_listed_before_one_is_chosen(b2: Command) -> None:
    ran = await b2("buckets", "list", BACKBLAZE_BUCKET_NAME="")
    assert ran.code == 0
    assert ran.lines[1].startswith("careflow-recordings-test")


@pytest.mark.parametrize("typed", ["y\n", "\n", "careflow-recordings-pro\n"])
async def test_a_bucket_is_deleted_only_when_its_name_is_typed(b2: Command, typed: str) -> None:
    ran = await b2("buckets", "delete", "careflow-recordings-test", stdin=typed)
    assert ran.code == 1
    assert "nothing was changed" in ran.err
    assert (await b2("buckets", "info")).code == 0


async def test_a_bucket_is_not_deleted_if_its_name_cannot_be_asked_for(b2: Command) -> None:
    name = "careflow-recordings-test"
    assert (await b2("buckets", "delete", name, stdin="")).code == 2
    assert (await b2("buckets", "delete", name, "--confirm", "other")).code == 2
    assert (await b2("buckets", "delete", name, "--json")).code == 2
    assert (await b2("buckets", "info")).code == 0
    assert (await b2("buckets", "delete", name, "--confirm", name, "--json")).json["deleted"]


async def test_a_bucket_that_is_not_empty_stays_and_the_hint_can_be_typed(
    b2: Command, server: B2Server
) -> None:
    async with BackblazeStorage(server.settings()) as storage:
        await storage.upload_file("a", b"a")
    name = server.bucket
    ran = await b2("buckets", "delete", name, "--confirm", name)
    assert ran.code == 1
    assert f"careflow-storage --bucket {name} rm --prefix" in ran.err


async def test_the_default_encryption_is_shown_and_set(command: Command) -> None:
    assert (await command("buckets", "encryption")).out == "none\n"
    assert (await command("buckets", "encryption", "SSE-B2")).out == "SSE-B2\n"
    assert (await command("buckets", "encryption", "--json")).json["encryption"] == "SSE-B2"
    assert (await command("buckets", "encryption", "none")).out == "none\n"


async def test_what_the_key_may_not_read_is_named(b2: Command, server: B2Server) -> None:
    key = server.create_key(capabilities={"listBuckets", "readBuckets"})
    ran = await Command(server.settings(key=key))("buckets", "info")
    assert ran.code == 0
    assert "encryption" not in ran.out
    assert "object lock, encryption, lifecycle rules" in ran.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("create", "a", "--env", "prod"), "not both"),
        (("create", "UPPER_CASE"), "UPPER_CASE"),
        (("info", "x"), "'x'"),
        (("encryption", "aws:kms"), "aws:kms"),
    ],
)
async def test_what_cannot_be_a_bucket_is_refused_by_name(
    command: Command, arguments: tuple[str, ...], expected: str
) -> None:
    ran = await command("buckets", *arguments)
    assert ran.code == 2
    assert expected in ran.err


# --- lock -------------------------------------------------------------------------------


@pytest.fixture
async def lockable(b2: Command, server: B2Server) -> Command:
    """On a bucket that can lock files, with a file."""
    assert (await b2("buckets", "create", "careflow-lockable", "--object-lock")).code == 0
    settings = server.settings(bucket_name="careflow-lockable")
    async with BackblazeStorage(settings) as storage:
        await storage.upload_file("a.wav", b"a")
    return Command(settings)


async def test_a_file_is_kept_and_released(lockable: Command) -> None:
    assert (await lockable("lock", "status", "a.wav")).lines[0] == "a.wav is not locked"
    assert (await lockable("lock", "retain", "a.wav", "--for", "90d")).code == 0
    status = (await lockable("lock", "status", "a.wav", "--json")).json
    assert status["locked"]
    until = datetime.fromisoformat(status["retention"]["retain_until"]) - datetime.now(UTC)
    assert timedelta(days=89) < until <= timedelta(days=90)
    assert (await lockable("lock", "release", "a.wav", stdin="n\n")).code == 1
    assert (await lockable("lock", "release", "a.wav", "--yes")).code == 0
    assert not (await lockable("lock", "status", "a.wav", "--json")).json["locked"]
    assert "no retention" in (await lockable("lock", "release", "a.wav")).err


async def test_a_legal_hold_is_set_and_ended(lockable: Command) -> None:
    assert (await lockable("lock", "hold", "a.wav", "on")).code == 0
    ran = await lockable("lock", "status", "a.wav")
    assert ran.lines[0] == "a.wav is locked"
    assert (await lockable("lock", "hold", "a.wav", "off", "--json")).json["legal_hold"] is False
    assert (await lockable("lock", "status", "a.wav")).lines[0] == "a.wav is not locked"


async def test_compliance_retention_needs_a_yes(lockable: Command) -> None:
    arguments = ("lock", "retain", "a.wav", "--until", "2099-01-31", "--mode", "compliance")
    for stdin, code in (("n\n", 1), ("", 2)):
        ran = await lockable(*arguments, stdin=stdin)
        assert ran.code == code
        assert "2099-01-31 00:00:00 UTC no key can erase a.wav" in ran.err
    assert (await lockable("lock", "status", "a.wav", "--json")).json["retention"] is None


async def test_a_default_is_set_for_new_files_after_a_yes(lockable: Command) -> None:
    arguments = ("lock", "enable", "--default-mode", "governance", "--default-days", "30")
    assert (await lockable(*arguments, stdin="")).code == 2
    assert (await lockable(*arguments, stdin="y\n")).code == 0
    assert "locked for 30 days (governance)" in (await lockable("lock", "show")).out
    assert (await lockable(*arguments)).code == 0  # Nothing to change.


async def test_disabled_object_lock_is_reported(command: Command) -> None:
    assert (await command("lock", "show")).out == "Object lock is disabled.\n"
    ran = await command("lock", "enable", stdin="\n")
    assert ran.code == 1
    assert "cannot be disabled again" in ran.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("enable", "--default-days", "30"), "--default-mode"),
        (("enable", "--default-mode", "governance", "--default-days", "3001"), "3000"),
        (("retain", "a.wav"), "--until"),
        (("retain", "a.wav", "--until", "2027-01-01", "--for", "1d"), "--until"),
        (("retain", "a.wav", "--until", "tomorrow"), "tomorrow"),
        (("retain", "a.wav", "--until", "2020-01-01"), "future"),
        (("retain", "a.wav", "--for", "999999w"), "9999"),
        (("hold", "a.wav", "maybe"), "maybe"),
    ],
)
async def test_what_cannot_be_a_lock_is_refused_by_name(
    command: Command, arguments: tuple[str, ...], expected: str
) -> None:
    ran = await command("lock", *arguments)
    assert ran.code == 2
    assert expected in ran.err


# --- config -----------------------------------------------------------------------------


async def test_config_shows_each_setting_and_its_source(
    command: Command, settings: StorageSettings, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("BACKBLAZE_PART_SIZE=9000000\nBACKBLAZE_REGION=elsewhere\n")
    ran = await command("config")
    assert ran.code == 0
    rows = {line.split()[0]: line for line in ran.lines}
    assert str(settings.bucket_name) in rows["BACKBLAZE_BUCKET_NAME"]
    assert rows["BACKBLAZE_BUCKET_NAME"].rstrip().endswith("the environment")
    assert rows["BACKBLAZE_PART_SIZE"].rstrip().endswith(".env")
    assert "test-application-key" not in ran.out + ran.err
    assert "overrides BACKBLAZE_REGION" in ran.err
    assert "BACKBLAZE_CONNECT_TIMEOUT" not in rows
    assert "BACKBLAZE_CONNECT_TIMEOUT" in (await command("config", "--all")).out


async def test_config_names_what_is_missing_or_malformed(command: Command) -> None:
    ran = await command("config", "--json", BACKBLAZE_KEY_ID="")
    assert ran.code == 2
    assert ran.json["missing"] == ["BACKBLAZE_KEY_ID"]
    ran = await command("config", BACKBLAZE_ENDPOINT="s3cret://not-a-url")
    assert ran.code == 2
    assert "malformed" in ran.out
    assert "s3cret" not in ran.out + ran.err


async def test_config_of_a_file_and_another_bucket(command: Command, tmp_path: Path) -> None:
    (tmp_path / "prod.env").write_text("BACKBLAZE_PART_SIZE=9000000\n")
    ran = await command("--env-file", "prod.env", "--bucket", "another", "config", "--json")
    origins = {each["name"]: each for each in ran.json["settings"]}
    assert origins["part_size"]["where"].endswith("prod.env")
    assert origins["bucket_name"]["value"] == "another"


# --- migrate ----------------------------------------------------------------------------


async def test_variables_that_work_with_b2_are_translated_and_secrets_masked(
    command: Command, tmp_path: Path
) -> None:
    secret = "K004abcdefghijklmnopqrstuvwxyz1"
    source = tmp_path / "aws.env"
    source.write_text(
        "AWS_ACCESS_KEY_ID=004f1c2d3e4a5b60000000007\n"
        f"AWS_SECRET_ACCESS_KEY={secret}\n"
        "AWS_S3_BUCKET=careflow-recordings\n"
        "AWS_ENDPOINT=https://s3.us-west-004.backblazeb2.com\n"
    )
    ran = await command("migrate", "env", "--from", source)
    assert ran.code == 0
    assert "BACKBLAZE_BUCKET_NAME=careflow-recordings" in ran.lines
    assert secret not in ran.out + ran.err
    target = tmp_path / "b2.env"
    ran = await command("migrate", "env", "--from", source, "--write", target, "--json")
    assert secret not in ran.out + ran.err
    assert ran.json["missing"] == []
    assert f"BACKBLAZE_APPLICATION_KEY={secret}\n" in target.read_text()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


async def test_variables_of_aws_alone_are_listed(command: Command, tmp_path: Path) -> None:
    source = tmp_path / "aws.env"
    source.write_text(
        "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\nAWS_SECRET_ACCESS_KEY=wJalrXUtnFEMIEXAMPLEKEY\n"
        "AWS_REGION=us-east-1\n"
    )
    ran = await command("migrate", "env", "--from", source)
    assert "# BACKBLAZE_KEY_ID=" in ran.lines
    assert "wJalr" not in ran.out + ran.err
    assert "You still have to set: BACKBLAZE_KEY_ID, BACKBLAZE_APPLICATION_KEY" in ran.err
    # All of it is a file of variables, with comments.
    assert all(line.startswith(("#", "BACKBLAZE_")) or not line for line in ran.lines)


async def test_old_code_is_checked_and_required_changes_are_shown(b2: Command) -> None:
    ran = await b2("migrate", "check")
    assert ran.code == 1
    assert "generate_presigned_post()" in ran.out
    assert "Use a presigned PUT" in ran.out
    findings = (await b2("migrate", "check", "--json")).json["findings"]
    assert {each["verdict"] for each in findings} >= {"works", "fails"}
    assert (await b2("migrate", "check", "--prefix", "no-slash")).code == 2
