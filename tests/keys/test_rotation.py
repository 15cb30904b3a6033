"""Rotating application keys, and what is left when it is interrupted."""

from __future__ import annotations

import asyncio
import logging
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    InvalidCredentialsError,
    InvalidInputError,
    NoSuchApplicationKeyError,
    StorageError,
    StorageSettings,
)
from careflow_storage._env_file import read_env
from careflow_storage.keys import ApplicationKeys, CreatedKey, KeyInfo, RotationResult, rotation
from careflow_storage.keys.naming import (
    base_name,
    kept_until,
    replaced_id,
    replacement_name,
    superseded,
)
from careflow_storage.testing import B2Server
from tests.support.interrupted import KilledError, Steps, striking
from tests.support.native_account import BUCKET, SimulatedAccount, simulated_account

pytest_plugins = ["careflow_storage.testing.plugin"]

NOW = timedelta(0)
ALL_OF_FILES = ("listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles")


@pytest.fixture
def account() -> Iterator[SimulatedAccount]:
    with simulated_account() as opened:
        yield opened


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / "service.env"


def text_in(path: Path) -> str:
    return path.read_text(encoding="latin-1")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="latin-1")


def admin_of(server: B2Server) -> ApplicationKeys:
    return ApplicationKeys.of_settings(server.settings())


async def key_in(
    server: B2Server, env_file: Path, capabilities: Any = ALL_OF_FILES, **limits: Any
) -> CreatedKey:
    """A key that a program has got by its file."""
    limits = {"bucket": server.bucket, "prefix": "recordings/"} | limits
    made = await admin_of(server).create("careflow-prod", capabilities, **limits)
    write(
        env_file,
        f"# the bucket\nBACKBLAZE_BUCKET_NAME={server.bucket}\n"
        f"BACKBLAZE_KEY_ID='{made.key_id}'  # rotated\n"
        f"BACKBLAZE_APPLICATION_KEY={made.application_key.get_secret_value()}\nOTHER=${{HOME}}",
    )
    return made


def settings_in(server: B2Server, env_file: Path) -> StorageSettings:
    found = read_env(env_file)
    return server.settings(
        key_id=found["BACKBLAZE_KEY_ID"], application_key=found["BACKBLAZE_APPLICATION_KEY"]
    )


async def works(settings: StorageSettings) -> bool:
    async with BackblazeStorage(settings) as storage:
        try:
            await storage.list_files("recordings/")
        except InvalidCredentialsError:
            return False
    return True


# --- a rotation that nothing disturbs -----------------------------------------------------


async def test_a_program_gets_a_new_key_of_the_same_limits_and_the_old_one_goes(
    b2_server: B2Server, env_file: Path
) -> None:
    old = await key_in(b2_server, env_file, expires_in=timedelta(days=10))
    before = settings_in(b2_server, env_file)
    result = await admin_of(b2_server).rotate(old.key_id, env_file=env_file, grace=NOW)
    assert result == RotationResult(
        old_key_id=old.key_id,
        new_key_id=result.new_key_id,
        proved=True,
        old_deleted=True,
        delete_old_after=None,
        resumed=False,
        deleted=(old.key_id,),
    )
    _, new = await admin_of(b2_server).list()
    assert new.name == f"careflow-prod-replaces-{old.key_id}"
    limits = {"capabilities", "bucket_ids", "bucket_names", "prefix"}
    assert new.model_dump(include=limits) == old.model_dump(include=limits)
    assert new.expires_at is not None
    assert old.expires_at is not None
    assert timedelta(0) <= old.expires_at - new.expires_at < timedelta(seconds=5)
    after = settings_in(b2_server, env_file)
    assert after.key_id == result.new_key_id
    assert await works(after)
    assert not await works(before)
    assert b2_server.versions() == []
    assert text_in(env_file).startswith("# the bucket\nBACKBLAZE_BUCKET_NAME=")
    assert f"BACKBLAZE_KEY_ID={new.key_id}  # rotated\n" in text_in(env_file)
    assert text_in(env_file).endswith("\nOTHER=${HOME}")
    assert mode_of(env_file) == 0o600


async def test_a_presigned_url_dies_with_the_old_key(b2_server: B2Server, env_file: Path) -> None:
    old = await key_in(b2_server, env_file)
    async with BackblazeStorage(settings_in(b2_server, env_file)) as storage:
        await storage.upload_file("recordings/a.txt", b"hello")
        keys = admin_of(b2_server)
        await keys.rotate(old.key_id, env_file=env_file, grace=timedelta(days=7))
        assert await storage.get_file("recordings/a.txt") == b"hello"
        await keys.rotate(old.key_id, env_file=env_file, grace=NOW)
        with pytest.raises(InvalidCredentialsError):
            await storage.get_file("recordings/a.txt")


async def test_the_key_that_is_signed_in_with_rotates_itself(
    b2_server: B2Server, env_file: Path
) -> None:
    rights = ("listKeys", "writeKeys", "deleteKeys", "listBuckets", *ALL_OF_FILES)
    old = await key_in(b2_server, env_file, rights, bucket=None, prefix=None)
    keys = ApplicationKeys.of_settings(settings_in(b2_server, env_file))
    result = await keys.rotate(old.key_id, env_file=env_file, grace=NOW)
    assert result.old_deleted
    assert [key.key_id for key in await keys.list()] == [b2_server.key.key_id, result.new_key_id]
    again = await keys.rotate(result.new_key_id, env_file=env_file, grace=NOW)
    assert await works(settings_in(b2_server, env_file))
    assert [key.key_id for key in await keys.list()] == [b2_server.key.key_id, again.new_key_id]


async def test_with_the_master_key_b2_returns_the_endpoint_for_the_probe(env_file: Path) -> None:
    with B2Server(region="us-east-1") as server:
        old = await key_in(server, env_file)
        master = server.master_key
        keys = ApplicationKeys(master.key_id, master.application_key, realm=server.endpoint)
        result = await keys.rotate(old.key_id, env_file=env_file, grace=NOW)
        assert result.old_deleted
        assert "PutObject" in [each.operation for each in server.requests]
        assert await works(settings_in(server, env_file))


@pytest.mark.parametrize(
    ("capabilities", "left"),
    [
        (("writeFiles",), "hidden"),
        (("listBuckets", "writeFiles", "listFiles"), "hidden"),
        (("writeFiles", "deleteFiles"), "nothing"),
        (("listBuckets", "listFiles", "readFiles"), "nothing"),
        (("readFiles",), "nothing"),
        (("listFiles",), "nothing"),
        (("listBuckets",), "nothing"),
        (("readBuckets",), "nothing"),
    ],
)
async def test_a_new_key_is_probed_with_its_own_capabilities_only(
    b2_server: B2Server, env_file: Path, capabilities: tuple[str, ...], left: str
) -> None:
    old = await key_in(b2_server, env_file, capabilities)
    result = await admin_of(b2_server).rotate(old.key_id, env_file=env_file, grace=NOW)
    assert all(
        (attempt.status or 0) < 400 or "GetObject" in attempt.operation
        for attempt in b2_server.requests
    )
    if left == "nothing":
        assert b2_server.versions() == []
        assert result.probe_left is None
    else:
        assert result.probe_left == f"recordings/careflow-key-check-{old.key_id}"
        assert b2_server.versions(result.probe_left)[0].is_delete_marker


async def test_a_vault_gets_the_key_from_a_function_of_either_kind(
    b2_server: B2Server, env_file: Path
) -> None:
    old = await key_in(b2_server, env_file)
    vault: dict[str, CreatedKey] = {}
    threads: set[int] = set()

    def put(key: CreatedKey) -> None:
        threads.add(threading.get_ident())
        vault["key"] = key

    async def put_async(key: CreatedKey) -> None:
        put(key)

    keys = admin_of(b2_server)
    first = await keys.rotate(old.key_id, deliver=put, grace=NOW)
    assert threading.get_ident() not in threads
    second = await keys.rotate(first.new_key_id, deliver=put_async, grace=NOW)
    assert vault["key"].key_id == second.new_key_id
    assert await works(
        b2_server.settings(key_id=vault["key"].key_id, application_key=vault["key"].application_key)
    )


# --- grace --------------------------------------------------------------------------------


async def test_the_old_key_stays_for_its_grace_and_a_later_run_deletes_it(
    b2_server: B2Server, env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await key_in(b2_server, env_file)
    grace = timedelta(days=7)
    first = await admin_of(b2_server).rotate(old.key_id, env_file=env_file, grace=grace)
    assert not first.old_deleted
    assert first.delete_old_after is not None
    keys = admin_of(b2_server)
    assert await keys.finish_rotation(first.new_key_id) == ()
    early = await keys.rotate(old.key_id, env_file=env_file, grace=grace)
    assert (early.resumed, early.old_deleted) == (True, False)
    assert early.new_key_id == first.new_key_id
    assert early.delete_old_after == first.delete_old_after
    monkeypatch.setattr(rotation, "_now", lambda: datetime.now(UTC) + timedelta(days=8))
    assert [key.key_id for key in await keys.finish_rotation(first.new_key_id)] == [old.key_id]
    assert await keys.finish_rotation(first.new_key_id) == ()
    assert [key.key_id for key in await keys.list()] == [b2_server.key.key_id, first.new_key_id]


async def test_the_same_call_after_the_grace_deletes_the_old_key(
    b2_server: B2Server, env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await key_in(b2_server, env_file)
    call: dict[str, Any] = {"env_file": env_file, "grace": timedelta(days=7)}
    await admin_of(b2_server).rotate(old.key_id, **call)
    monkeypatch.setattr(rotation, "_now", lambda: datetime.now(UTC) + timedelta(days=8))
    done = await admin_of(b2_server).rotate(old.key_id, **call)
    assert (done.resumed, done.old_deleted, done.deleted) == (True, True, (old.key_id,))
    again = await admin_of(b2_server).rotate(old.key_id, **call)
    assert (again.resumed, again.old_deleted, again.deleted) == (True, True, ())


async def test_a_monthly_rotation_deletes_the_key_of_the_month_before(
    account: SimulatedAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await account.keys().create("reports", ["listBuckets"])
    current = made.key_id
    for month in range(4):
        later = datetime.now(UTC) + timedelta(days=30 * month)
        monkeypatch.setattr(rotation, "_now", lambda later=later: later)
        result = await account.keys().rotate(
            current, deliver=lambda key: None, grace=timedelta(days=7)
        )
        current = result.new_key_id
        assert len(account.ids) == 2, "the one in use, and the last one for its grace"
    assert len(account.names[-1]) < 60
    assert account.names[-1].startswith("reports-replaces-")


async def test_a_grace_of_none_keeps_the_old_key_until_the_rotation_is_finished(
    account: SimulatedAccount,
) -> None:
    made = await account.keys().create("reports", ["listBuckets"])
    result = await account.keys().rotate(made.key_id, deliver=lambda key: None)
    assert (result.old_deleted, result.delete_old_after) == (False, None)
    assert made.key_id in account.ids
    [gone] = await account.keys().finish_rotation(result.new_key_id)
    assert gone.key_id == made.key_id
    assert account.ids == [result.new_key_id]


async def test_a_key_goes_with_all_that_it_had_replaced(account: SimulatedAccount) -> None:
    made = await account.keys().create("reports", ["listBuckets"])
    current = made.key_id
    for _ in range(3):
        current = (await account.keys().rotate(current, deliver=lambda key: None)).new_key_id
    assert len(account.ids) == 4
    await account.keys().rotate(current, deliver=lambda key: None, grace=NOW)
    assert len(account.ids) == 1


@pytest.mark.parametrize("finished", [0, 1])
async def test_a_key_is_never_finished_with_a_newer_one_of_the_same_old_key(
    b2_server: B2Server, tmp_path: Path, finished: int, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = tmp_path / "a.env", tmp_path / "b.env"
    old = await key_in(b2_server, first)
    write(second, text_in(first))
    keys = admin_of(b2_server)
    await keys.rotate(old.key_id, env_file=first)
    assert "already" not in caplog.text
    await keys.rotate(old.key_id, env_file=second)
    assert f"{settings_in(b2_server, first).key_id} was created to replace" in caplog.text
    current = settings_in(b2_server, first).key_id
    assert current is not None
    if finished:
        # Its next key does no harm to the other one either.
        current = (await keys.rotate(current, env_file=first, grace=NOW)).new_key_id
    gone = await keys.finish_rotation(current)
    assert [key.key_id for key in gone] == ([] if finished else [old.key_id])
    assert await works(settings_in(b2_server, first))
    assert await works(settings_in(b2_server, second))


async def test_an_older_key_that_was_replaced_itself_was_in_use_and_stays(
    account: SimulatedAccount,
) -> None:
    keys = account.keys()
    made = await keys.create("reports", ["listBuckets"])
    one = await keys.rotate(made.key_id, deliver=lambda key: None)
    other = await keys.rotate(made.key_id, deliver=lambda key: None)
    following = await keys.rotate(one.new_key_id, deliver=lambda key: None)
    await keys.finish_rotation(other.new_key_id)
    assert set(account.ids) == {one.new_key_id, other.new_key_id, following.new_key_id}


# --- what is refused before a key is made -------------------------------------------------


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({}, "exactly one"),
        ({"env_file": Path("a.env"), "deliver": print}, "exactly one"),
        ({"deliver": "vault"}, "deliver"),
        ({"env_file": 5}, "env_file"),
        ({"env_file": Path("missing/a.env")}, "env_file"),
        ({"env_file": Path("/proc/a.env")}, "env_file"),
        ({"env_file": Path("/")}, "env_file|not a file"),
        ({"deliver": print, "grace": timedelta(-1)}, "grace"),
        ({"deliver": print, "grace": 5}, "grace"),
        ({"deliver": print, "expires_in": timedelta(days=1000)}, "expires_in"),
        ({"deliver": print, "key_id": ""}, "key_id"),
    ],
)
async def test_invalid_arguments_are_refused_before_any_request(
    given: dict[str, Any], match: str
) -> None:
    keys = ApplicationKeys("a" * 25, "K", realm="http://127.0.0.1:9")
    with pytest.raises(InvalidInputError, match=match):
        await keys.rotate(given.pop("key_id", "b" * 25), **given)


async def test_a_file_that_is_no_text_is_refused_before_any_request(env_file: Path) -> None:
    write(env_file, "\xff\xfeA")
    keys = ApplicationKeys("a" * 25, "K", realm="http://127.0.0.1:9")
    with pytest.raises(InvalidInputError, match="UTF-8"):
        await keys.rotate("b" * 25, env_file=env_file)
    assert text_in(env_file) == "\xff\xfeA"


async def test_the_file_of_another_program_is_not_overwritten(
    b2_server: B2Server, env_file: Path
) -> None:
    old = await key_in(b2_server, env_file)
    other = await key_in(b2_server, env_file)
    with pytest.raises(InvalidInputError, match=other.key_id):
        await admin_of(b2_server).rotate(old.key_id, env_file=env_file)
    assert len(await admin_of(b2_server).list()) == 3


async def test_a_missing_or_expired_key_is_reported(account: SimulatedAccount) -> None:
    keys = account.keys()
    with pytest.raises(NoSuchApplicationKeyError, match="0040000"):
        await keys.rotate("004000000000000000000000f", deliver=print)
    with pytest.raises(NoSuchApplicationKeyError, match="master key"):
        await keys.rotate(account.account_id, deliver=print)
    made = await keys.create("short", ["listBuckets"], expires_in=timedelta(seconds=1))
    account.simulator.all_application_keys[0].expiration_timestamp_or_none -= 60
    with pytest.raises(NoSuchApplicationKeyError, match="expired"):
        await keys.rotate(made.key_id, deliver=print)
    assert account.ids == [made.key_id]


@pytest.mark.parametrize("missing", ["listKeys", "writeKeys", "deleteKeys", "listBuckets"])
async def test_a_missing_capability_is_reported_before_a_key_is_made(
    b2_server: B2Server, env_file: Path, missing: str
) -> None:
    old = await key_in(b2_server, env_file)
    rights = {"listKeys", "writeKeys", "deleteKeys", "listBuckets"} - {missing}
    keys = ApplicationKeys.of_settings(
        b2_server.settings(key=b2_server.create_key(capabilities=rights))
    )
    with pytest.raises(AccessDeniedError, match=missing):
        await keys.rotate(old.key_id, env_file=env_file)
    assert "b2_create_key" not in [each.operation for each in b2_server.requests][4:]


async def test_a_key_of_a_bucket_that_is_gone_is_not_rotated(account: SimulatedAccount) -> None:
    made = await account.keys().create("of-it", "app", bucket=BUCKET)
    del account.simulator.bucket_id_to_bucket[account.bucket_id]
    del account.simulator.bucket_name_to_bucket[BUCKET]
    with pytest.raises(InvalidInputError, match="does not exist any more"):
        await account.keys().rotate(made.key_id, deliver=print)
    assert account.ids == [made.key_id]


async def test_a_key_of_all_buckets_needs_one_for_its_trial(account: SimulatedAccount) -> None:
    made = await account.keys().create("reader", ["readFiles"])
    with pytest.raises(InvalidInputError, match="settings"):
        await account.keys().rotate(made.key_id, deliver=print)
    assert account.ids == [made.key_id]


# --- what fails on the way ----------------------------------------------------------------


@pytest.mark.parametrize("operation", ["PutObject", "GetObject", "ListObjectsV2", "DeleteObject"])
async def test_a_new_key_that_fails_its_trial_is_deleted_and_the_old_one_stays(
    b2_server: B2Server, env_file: Path, operation: str
) -> None:
    old = await key_in(b2_server, env_file)
    before = text_in(env_file)
    b2_server.faults.always(operation, status=403, code="AccessDenied")
    with pytest.raises(AccessDeniedError) as caught:
        await admin_of(b2_server).rotate(old.key_id, env_file=env_file, grace=NOW)
    assert any("the old one is unchanged" in note for note in caught.value.__notes__)
    b2_server.faults.clear()
    assert [key.key_id for key in await admin_of(b2_server).list()][1:] == [old.key_id]
    assert text_in(env_file) == before
    await admin_of(b2_server).rotate(old.key_id, env_file=env_file, grace=NOW)
    assert b2_server.versions() == []


async def test_a_new_key_that_b2_does_not_know_yet_is_waited_for(
    b2_server: B2Server, env_file: Path
) -> None:
    old = await key_in(b2_server, env_file)
    rule = b2_server.faults.next("PutObject", times=3, status=403, code="InvalidAccessKeyId")
    b2_server.faults.next("GetObject", times=1, status=403, code="InvalidAccessKeyId")
    result = await admin_of(b2_server).rotate(old.key_id, env_file=env_file, grace=NOW)
    assert rule.hits == 3
    assert result.old_deleted
    assert b2_server.versions() == []


async def test_a_probe_that_object_lock_keeps_is_hidden(
    b2_server: B2Server, env_file: Path
) -> None:
    old = await key_in(b2_server, env_file)
    b2_server.faults.next("DeleteObject", status=403, code="AccessDenied")
    result = await admin_of(b2_server).rotate(old.key_id, env_file=env_file, grace=NOW)
    assert result.probe_left is not None
    assert b2_server.versions(result.probe_left)[0].is_delete_marker


async def test_when_the_delivery_fails_the_new_key_is_deleted(
    b2_server: B2Server, env_file: Path
) -> None:
    old = await key_in(b2_server, env_file)

    async def broken(key: CreatedKey) -> None:
        raise RuntimeError("the vault is sealed")

    with pytest.raises(RuntimeError, match="sealed"):
        await admin_of(b2_server).rotate(old.key_id, deliver=broken, grace=NOW)
    assert [key.key_id for key in await admin_of(b2_server).list()][1:] == [old.key_id]
    assert await works(settings_in(b2_server, env_file))


async def test_a_cancelled_delivery_in_a_thread_that_succeeds_keeps_the_key(
    account: SimulatedAccount,
) -> None:
    made = await account.keys().create("reports", ["listBuckets"])
    begun, go_on = threading.Event(), threading.Event()

    def slow(key: CreatedKey) -> None:
        begun.set()
        go_on.wait(30)

    keys = account.keys()
    task = asyncio.create_task(keys.rotate(made.key_id, deliver=slow, grace=NOW))
    await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(account.ids) == 2
    result = await keys.rotate(made.key_id, deliver=slow, grace=NOW)
    assert result.resumed
    assert account.ids == [result.new_key_id]


async def test_a_cancelled_delivery_that_is_async_takes_the_key_back(
    account: SimulatedAccount,
) -> None:
    made = await account.keys().create("reports", ["listBuckets"])
    begun = asyncio.Event()

    async def endless(key: CreatedKey) -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(account.keys().rotate(made.key_id, deliver=endless))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert account.ids == [made.key_id]


async def test_a_response_that_is_lost_leaves_no_second_key(
    b2_server: B2Server, env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("b2sdk._internal.b2http.time.sleep", lambda _: None)
    old = await key_in(b2_server, env_file)
    b2_server.faults.next("b2_create_key", cut="rst", at="resp")
    b2_server.faults.next("b2_delete_key", cut="rst", at="resp")
    result = await admin_of(b2_server).rotate(old.key_id, env_file=env_file, grace=NOW)
    left = [key.key_id for key in await admin_of(b2_server).list()]
    assert left == [b2_server.key.key_id, result.new_key_id]
    assert await works(settings_in(b2_server, env_file))


async def test_a_deletion_that_b2_refuses_is_not_taken_for_done(
    b2_server: B2Server, env_file: Path
) -> None:
    old = await key_in(b2_server, env_file)
    refusal = b'{"status": 400, "code": "bad_request", "message": "not now"}'
    b2_server.faults.next("b2_delete_key", status=400, body=refusal)
    with pytest.raises(StorageError, match="not now"):
        await admin_of(b2_server).rotate(old.key_id, env_file=env_file, grace=NOW)
    done = await admin_of(b2_server).rotate(old.key_id, env_file=env_file, grace=NOW)
    assert (done.resumed, done.deleted) == (True, (old.key_id,))


async def test_a_rotation_logs_no_secret(
    b2_server: B2Server, env_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    old = await key_in(b2_server, env_file)
    result = await admin_of(b2_server).rotate(old.key_id, env_file=env_file, grace=NOW)
    assert result.new_key_id in caplog.text
    secrets = (
        old.application_key.get_secret_value(),
        read_env(env_file)["BACKBLAZE_APPLICATION_KEY"],
        b2_server.key.application_key,
    )
    assert not any(secret in caplog.text for secret in secrets)


# --- killed anywhere ----------------------------------------------------------------------


async def a_clean_run_of_the_simulator(env_file: Path) -> list[str]:
    with simulated_account() as account:
        made = await account.keys().create("reports", ["listBuckets"])
        steps = Steps()
        with striking(steps):
            await account.keys().rotate(made.key_id, env_file=env_file, grace=NOW)
    return steps.names


@pytest.mark.parametrize("dead", [True, False], ids=["killed", "failed"])
@pytest.mark.parametrize("first_grace", [NOW, timedelta(days=7), None])
async def test_whatever_step_a_native_rotation_is_struck_at_the_next_run_finishes(
    tmp_path: Path, first_grace: timedelta | None, dead: bool
) -> None:
    names = await a_clean_run_of_the_simulator(tmp_path / "clean.env")
    assert {"after b2_create_key", "after write_env", "after b2_delete_key"} <= set(names)
    for number, name in enumerate(names):
        env_file = tmp_path / f"{number}.env"
        with simulated_account() as account:
            made = await account.keys().create("reports", ["listBuckets"])
            write(env_file, f"BACKBLAZE_KEY_ID={made.key_id}\n")
            steps = Steps(number, dead=dead)
            struck = first_grace == NOW
            with striking(steps):
                try:
                    await account.keys().rotate(made.key_id, env_file=env_file, grace=first_grace)
                except KilledError:
                    struck = True
            assert struck or len(steps.names) <= number
            there = read_env(env_file)["BACKBLAZE_KEY_ID"]
            assert there in account.ids, f"{name}: what the file holds always works"
            result = await account.keys().rotate(made.key_id, env_file=env_file, grace=NOW)
            assert account.ids == [result.new_key_id], name
            found = read_env(env_file)
            assert found["BACKBLAZE_KEY_ID"] == result.new_key_id
            [key] = account.simulator.all_application_keys
            assert found["BACKBLAZE_APPLICATION_KEY"] == key.key
            assert key.capabilities == ["listBuckets"]


@pytest.mark.slow
@pytest.mark.parametrize("dead", [True, False], ids=["killed", "failed"])
@pytest.mark.parametrize(
    "capabilities",
    [ALL_OF_FILES, ("listKeys", "writeKeys", "deleteKeys", *ALL_OF_FILES)],
    ids=["of a program", "of itself"],
)
async def test_whatever_step_a_rotation_is_struck_at_the_next_run_finishes(
    b2_server: B2Server, tmp_path: Path, capabilities: tuple[str, ...], dead: bool
) -> None:
    number, itself = 0, "listKeys" in capabilities
    where = {"bucket": None, "prefix": None} if itself else {}
    while True:
        b2_server.reset()
        env_file = tmp_path / f"{number}.env"
        old = await key_in(b2_server, env_file, capabilities, **where)
        keys = admin_of(b2_server)
        if itself:
            keys = ApplicationKeys.of_settings(settings_in(b2_server, env_file))
        steps = Steps(number, dead=dead)
        try:
            with striking(steps):
                await keys.rotate(old.key_id, env_file=env_file, grace=NOW)
        except KilledError:
            pass
        else:
            break
        assert await works(settings_in(b2_server, env_file)), steps.names[-1]
        keys = ApplicationKeys.of_settings(settings_in(b2_server, env_file)) if itself else keys
        result = await keys.rotate(old.key_id, env_file=env_file, grace=NOW)
        settings = settings_in(b2_server, env_file)
        assert settings.key_id == result.new_key_id, steps.names[-1]
        assert await works(settings)
        left = await admin_of(b2_server).list()
        assert [key.key_id for key in left[1:]] == [result.new_key_id], steps.names[-1]
        assert left[1].capabilities == old.capabilities
        assert left[1].prefix == old.prefix
        assert b2_server.versions() == [], steps.names[-1]
        number += 1
    assert number > 20  # as many steps were struck


async def test_a_killed_delivery_to_a_vault_is_made_again_and_never_leaves_it_without_a_key(
    account: SimulatedAccount,
) -> None:
    made = await account.keys().create("reports", ["listBuckets"])
    vault = [made.key_id]

    def put(key: CreatedKey) -> None:
        vault.append(key.key_id)
        steps.moment("delivered")

    steps = Steps()
    with striking(steps):
        await account.keys().rotate(made.key_id, deliver=put)
    struck = steps.names.index("delivered")
    old = vault[-1]
    steps = Steps(struck)
    with striking(steps), pytest.raises(KilledError):
        await account.keys().rotate(old, deliver=put)
    assert vault[-1] in account.ids, "the vault has it, though nobody was told"
    in_vault = vault[-1]
    steps = Steps()
    result = await account.keys().rotate(old, deliver=put, grace=timedelta(days=7))
    assert vault[-1] == result.new_key_id
    assert {old, in_vault} < set(account.ids), "kept for the grace"
    await account.keys().rotate(result.new_key_id, deliver=put, grace=NOW)
    assert account.ids == [vault[-1]]


async def test_who_runs_with_the_new_key_need_not_deliver_it_again(b2_server: B2Server) -> None:
    rights = {"listKeys", "writeKeys", "deleteKeys", *ALL_OF_FILES}
    old = b2_server.create_key(capabilities=rights)
    vault: list[CreatedKey] = []
    keys = ApplicationKeys.of_settings(b2_server.settings(key=old))
    await keys.rotate(old.key_id, deliver=vault.append, grace=timedelta(days=7))
    [new] = vault
    restarted = ApplicationKeys.of_settings(
        b2_server.settings(key_id=new.key_id, application_key=new.application_key)
    )
    result = await restarted.rotate(old.key_id, deliver=vault.append, grace=NOW)
    assert (result.resumed, result.new_key_id, len(vault)) == (True, new.key_id, 1)
    assert result.deleted == (old.key_id,)


# --- names --------------------------------------------------------------------------------


def info(key_id: str, name: str) -> KeyInfo:
    return KeyInfo(
        key_id=key_id,
        name=name,
        capabilities=("readFiles",),
        bucket_names=None,
        bucket_ids=None,
        prefix=None,
        expires_at=None,
    )


@given(
    name=st.from_regex(r"[A-Za-z0-9-]{1,100}", fullmatch=True),
    key_id=st.from_regex(r"[0-9a-f]{24,25}", fullmatch=True),
    until=st.none()
    | st.integers(1_790_000_000, 4_000_000_000).map(lambda n: datetime.fromtimestamp(n, UTC)),
)
def test_a_name_tells_what_it_replaces_and_never_grows(
    name: str, key_id: str, until: datetime | None
) -> None:
    key = info("f" * 25, replacement_name(info(key_id, name), until))
    assert len(key.name) <= 100
    assert replaced_id(key) == key_id
    assert kept_until(key) == until
    again = replacement_name(key, until)
    assert base_name(again) == base_name(key.name)
    assert len(again) <= 100


def test_names_that_go_in_circles_end() -> None:
    one, other = info("a" * 24, f"x-replaces-{'b' * 24}"), info("b" * 24, f"x-replaces-{'a' * 24}")
    assert superseded(one, [one, other]) == [other]
    assert superseded(info("c" * 24, "plain"), [one, other]) == []
