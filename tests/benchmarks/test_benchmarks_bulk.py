"""The benchmark of bulk copies: every program copies, and what is no copy is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.bulk.copiers import COPIERS, Copier, Task
from benchmarks.bulk.objects import Load, compare, fill, open_storage
from benchmarks.bulk.servers import Server, seaweed
from benchmarks.bulk.tree import run_watched
from benchmarks.clients.processes import executable

pytestmark = [pytest.mark.slow, pytest.mark.integration]

LOAD = Load("small", 30, 4096, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bulk")


@pytest.fixture(scope="module")
def source(folder: Path) -> Iterator[Server]:
    with seaweed(folder / "source") as server:
        yield server


@pytest.fixture(scope="module")
def target(folder: Path) -> Iterator[Server]:
    with seaweed(folder / "target") as server:
        yield server


@pytest.mark.parametrize("copier", COPIERS, ids=lambda copier: copier.label)
async def test_every_program_copies_all_objects_and_its_requests_are_counted(
    source: Server, target: Server, copier: Copier, tmp_path: Path
) -> None:
    if (program := copier.label.partition(" ")[0]) in ("rclone", "s5cmd"):
        try:
            executable(program)
        except RuntimeError as error:
            pytest.skip(str(error))
    await fill(source.endpoint, LOAD, tmp_path)
    async with open_storage(target.endpoint) as storage:
        await storage.delete_files([file.key for file in await storage.list_files()])
    before = target.requests()["PUT"]
    for command in copier.commands(Task(source.endpoint, target.endpoint, LOAD, tmp_path)):
        cost = run_watched(command.words, command.environment, tmp_path, 100.0)
        assert cost.cpu_s > 0
    assert target.requests()["PUT"] - before >= LOAD.count
    kept = await compare(source.endpoint, target.endpoint)
    assert kept == ("nothing" if program == "s5cmd" else "type, metadata, cache header")


async def test_what_is_missing_or_differs_is_told(
    source: Server, target: Server, tmp_path: Path
) -> None:
    for server in (source, target):
        await fill(server.endpoint, LOAD, tmp_path)
    async with open_storage(target.endpoint) as storage:
        first, second = [file.key for file in await storage.list_files("recordings/")][:2]
        await storage.upload_file(first, b"x" * LOAD.size)
        with pytest.raises(RuntimeError, match=rf"1 objects differ, {first}"):
            await compare(source.endpoint, target.endpoint)
        await storage.delete_file(second)
        with pytest.raises(RuntimeError, match="29 of 30 keys"):
            await compare(source.endpoint, target.endpoint)


def test_a_program_that_fails_is_quoted(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "import sys; sys.exit('no such bucket')"]
    with pytest.raises(RuntimeError, match="ended with 1: no such bucket"):
        run_watched(words, {}, tmp_path, 100.0)
