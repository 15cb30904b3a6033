"""Versions, copies and unfinished uploads by the command."""

from __future__ import annotations

from typing import Any

import pytest

from careflow_storage import BackblazeStorage, StorageSettings
from tests.support.command import Command


@pytest.fixture
def command(settings: StorageSettings) -> Command:
    return Command(settings)


async def begin_upload(storage: BackblazeStorage, key: str, part: bytes | None = None) -> str:
    """Begin a multipart upload and leave it, as a process that dies does."""
    client: Any = await storage.client()
    names = {"Bucket": storage.settings.bucket_name, "Key": key}
    upload_id: str = (await client.create_multipart_upload(**names))["UploadId"]
    if part is not None:
        await client.upload_part(**names, UploadId=upload_id, PartNumber=1, Body=part)
    return upload_id


async def test_versions_are_listed_below_their_keys_with_their_states(
    command: Command, storage: BackblazeStorage
) -> None:
    for body in (b"1", b"22"):
        await storage.upload_file("a.wav", body)
    await storage.upload_file("b.wav", b"333")
    await storage.delete_file("b.wav")
    ran = await command("versions")
    assert [line.split()[0] for line in ran.lines] == [
        *("a.wav", "latest", "old"),
        *("b.wav", "hidden", "old"),
    ]
    assert "3 versions, 1 delete marker, 6 bytes" in ran.err
    items = (await command("versions", "b", "--json")).items
    assert [(item["delete_marker"], item["is_latest"]) for item in items] == [
        (True, True),
        (False, False),
    ]


async def test_a_hidden_file_is_restored_and_an_old_version_becomes_the_newest(
    command: Command, storage: BackblazeStorage
) -> None:
    old = await storage.upload_file("a.wav", b"old")
    await storage.upload_file("a.wav", b"new")
    await storage.delete_file("a.wav")
    assert "no longer hidden" in (await command("restore", "a.wav")).err
    assert await storage.get_file("a.wav") == b"new"
    assert "Nothing to restore" in (await command("restore", "a.wav")).err
    ran = await command("restore", "a.wav", "--version-id", old.version_id, "--json")
    assert ran.json["how"] == "copied"
    assert await storage.get_file("a.wav") == b"old"
    assert (await command("restore", "nowhere")).code == 3


async def test_files_are_copied_and_moved_on_the_server(
    command: Command, storage: BackblazeStorage
) -> None:
    await storage.upload_file("a.wav", b"voice", "audio/wav")
    assert (await command("cp", "a.wav", "copies/ü.wav", "--json")).json["key"] == "copies/ü.wav"
    assert (await command("cp", "a.wav", "copies/ü.wav", "--no-overwrite")).code == 1
    moved = await command("mv", "a.wav", "b.wav")
    assert "Moved a.wav to b.wav (5 bytes)" in moved.err
    assert [file.key for file in await storage.list_files()] == ["b.wav", "copies/ü.wav"]
    assert (await storage.get_file_metadata("copies/ü.wav")).content_type == "audio/wav"
    assert (await command("mv", "a.wav", "c.wav")).code == 3


async def test_unfinished_uploads_are_listed_and_aborted_after_a_question(
    command: Command, storage: BackblazeStorage
) -> None:
    upload_id = await begin_upload(storage, "r/a.wav")
    await begin_upload(storage, "r/b.wav")
    listed = await command("uploads", "list", "r/")
    assert listed.lines[0] == "r/a.wav"
    assert upload_id in listed.lines[1]
    assert "2 unfinished uploads" in listed.err
    assert (await command("uploads", "abort", "r/a.wav", upload_id, stdin="n\n")).code == 1
    assert (await command("uploads", "abort", "r/a.wav", upload_id, stdin="y\n")).code == 0
    (left,) = (await command("uploads", "list", "--json")).items
    assert left["key"] == "r/b.wav"


@pytest.mark.parametrize("more", [["--yes"], ["--dry-run"], []])
async def test_an_upload_that_does_not_exist_is_not_reported_as_aborted(
    command: Command, storage: BackblazeStorage, more: list[str]
) -> None:
    upload_id = await begin_upload(storage, "r/a.wav")
    for key, other in (("r/a.wav", "bogus"), ("r/a.wa", upload_id), ("r/b.wav", upload_id)):
        ran = await command("uploads", "abort", key, other, *more)
        assert ran.code == 3
        assert f"There is no unfinished upload {other} of {key}." in ran.err
        assert "Aborted" not in ran.err
    assert len(await storage.list_incomplete_uploads()) == 1


async def test_only_uploads_that_are_older_are_aborted(seaweed_storage: BackblazeStorage) -> None:
    # moto says of every upload that it began in 2010.
    storage, command = seaweed_storage, Command(seaweed_storage.settings)
    await begin_upload(storage, "r/a.wav")
    await begin_upload(storage, "other/b.wav")
    kept = await command("uploads", "abort", "--older-than", "1d", "--yes")
    assert "0 of 2 unfinished uploads" in kept.err
    dry = await command("uploads", "abort", "--older-than", "0.001s", "--prefix", "r/", "--dry-run")
    assert dry.lines[0] == "r/a.wav"
    assert len(await storage.list_incomplete_uploads()) == 2


@pytest.mark.parametrize("arguments", [[], ["key"], ["key", "id", "--older-than", "1d"]])
async def test_an_unclear_abort_is_refused(command: Command, arguments: list[str]) -> None:
    assert (await command("uploads", "abort", *arguments)).code == 2


async def test_the_parts_of_a_crashed_process_become_a_recording(
    command: Command, storage: BackblazeStorage
) -> None:
    upload_id = await begin_upload(storage, "r/a.wav", b"what was said")
    ran = await command("uploads", "keep", "r/a.wav", upload_id)
    assert "marked as partial" in ran.err
    assert await storage.get_file("r/a.wav") == b"what was said"
    again = await command("uploads", "keep", "r/a.wav", upload_id, "--json")
    assert (again.code, again.error["type"]) == (3, "NoSuchUploadError")
