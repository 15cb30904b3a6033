"""The outbox's folder: for its user alone, and nothing in it leads out of it."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.outbox import Outbox, OutboxError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")

DATABASE = "outbox.sqlite3"


def modes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def loose_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("loose_umask")
@pytest.mark.parametrize("mode", [None, 0o700, 0o755])
async def test_whatever_the_umask_other_users_can_read_no_file(
    tmp_path: Path, mode: int | None
) -> None:
    folder = tmp_path / "outbox"
    if mode is not None:
        folder.mkdir(mode=mode)
    async with Outbox(folder) as outbox:
        await outbox.put_recording("CA1", b"voice", "a.webm")
        found = modes(folder)
    assert {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"} <= set(found)
    assert set(found.values()) == {0o600}
    assert {folder.joinpath(each).stat().st_mode & 0o077 for each in ("spool", "owners")} == {0}


@pytest.mark.parametrize("loose", [0o644, 0o666, 0o640])
async def test_a_database_that_others_could_read_is_restricted(tmp_path: Path, loose: int) -> None:
    folder = tmp_path / "outbox"
    async with Outbox(folder) as outbox:
        entry = await outbox.put_recording("CA1", b"voice", "a.webm")
    (folder / DATABASE).chmod(loose)
    async with Outbox(folder) as outbox:
        assert await outbox.get(entry.id) is not None
        assert set(modes(folder).values()) == {0o600}


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o702, 0o1777])
@pytest.mark.parametrize("part", [".", "spool", "owners"])
async def test_a_folder_that_others_may_write_to_is_refused(
    tmp_path: Path, mode: int, part: str
) -> None:
    folder = tmp_path / "out box"
    async with Outbox(folder) as outbox:
        entry = await outbox.put_recording("CA1", b"voice", "a.webm")
    (folder / part).chmod(mode)
    with pytest.raises(OutboxError, match="Other users may write") as caught:
        await Outbox(folder).__aenter__()
    assert caught.value.hint is not None
    # The hint, followed to the letter.
    _, command = caught.value.hint.split("Or run: ")
    subprocess.run(command, shell=True, check=True)  # noqa: ASYNC221, S602 - as a shell would
    async with Outbox(folder) as outbox:
        assert await outbox.get(entry.id) == entry


@pytest.mark.parametrize(
    "planted",
    ["../../secret.txt", "/etc/hostname", "..", "", ".", "secret.txt", "a" * 33, "A" * 32],
)
async def test_an_entry_that_the_outbox_did_not_make_leads_nowhere(
    tmp_path: Path, storage: BackblazeStorage, planted: str
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_bytes(b"voice")
    folder = tmp_path / "outbox"
    async with Outbox(folder) as outbox:
        good = await outbox.put_recording("CA1", b"voice", "a.webm")
        bad = await outbox.put_recording("CA2", b"voice", "a.webm")
    (folder / "spool" / "secret.txt").write_bytes(b"voice")
    with sqlite3.connect(folder / DATABASE) as database:
        database.execute("UPDATE entries SET id = ? WHERE id = ?", (planted, bad.id))
    database.close()
    async with Outbox(folder, storage, retry_base_delay=0.001) as outbox:
        status = await outbox.drain()
        assert (status.delivered, status.dead) == (1, 1)
        await outbox.discard(planted)
    assert await storage.get_file(good.key) == b"voice"
    assert not await storage.file_exists(bad.key)
    assert secret.read_bytes() == b"voice"
    assert (folder / "spool" / "secret.txt").read_bytes() == b"voice"


async def test_a_link_in_the_spool_is_not_followed(
    tmp_path: Path, storage: BackblazeStorage
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_bytes(b"voice")
    folder = tmp_path / "outbox"
    async with Outbox(folder) as outbox:
        entry = await outbox.put_recording("CA1", b"voice", "a.webm")
    (folder / "spool" / entry.id).unlink()
    (folder / "spool" / entry.id).symlink_to(secret)
    async with Outbox(folder, storage, retry_base_delay=0.001) as outbox:
        assert (await outbox.drain()).dead == 1
        await outbox.discard(entry.id)
    assert not await storage.file_exists(entry.key)
    assert secret.read_bytes() == b"voice"


async def test_files_that_the_outbox_did_not_make_stay(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    async with Outbox(folder):
        pass
    mine = [folder / "notes.txt", folder / "spool" / "notes.txt", folder / "spool" / "a.part"]
    for path in mine:
        path.write_bytes(b"mine")
    async with Outbox(folder):
        pass
    assert [path.read_bytes() for path in mine] == [b"mine"] * 3
