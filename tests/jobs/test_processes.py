"""Shards in child processes: which are replaced when they die, and end with their parent."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage, InvalidCredentialsError, InvalidInputError
from careflow_storage.jobs import LocalEngine, MapJob, WorkerLostError, resume_job, run_job
from careflow_storage.testing import B2Server
from tests.jobs.test_map import FUNCTIONS, Place
from tests.support.jobs import fill, numbered

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, waits for pidfds")

PROGRAM = """
import asyncio, sys
from careflow_storage.jobs import LocalEngine, Location, MapJob, run_job

async def main():
    job = MapJob(sys.argv[1], location=Location(env_file=sys.argv[2]), prefix="recordings/",
                 shard_keys=1)
    await run_job(job, engine=LocalEngine(processes=2))

asyncio.run(main())
"""


@pytest.fixture
async def place(server: B2Server, tmp_path: Path) -> AsyncIterator[Place]:
    async with BackblazeStorage(server.settings()) as storage:
        yield Place(storage, tmp_path / "place.env")


def children() -> set[int]:
    """The processes that this one has started and that have not ended, zombies included."""
    tasks = Path("/proc/self/task").iterdir()
    return {int(each) for task in tasks for each in (task / "children").read_text().split()}


@pytest.fixture(autouse=True)
def no_process_is_left() -> Callable[[], None]:
    """What runs or was not waited for at the end of a test."""
    before = children()
    return lambda: assert_equal(children() - before, set())


def assert_equal(one: object, other: object) -> None:
    assert one == other


async def test_shards_run_in_other_processes_whose_output_does_no_harm(
    place: Place, no_process_is_left: Callable[[], None]
) -> None:
    await fill(place.storage, numbered(8))

    report = await run_job(place.job("process", shard_keys=2), engine=LocalEngine(processes=2))

    values = await place.values(report)
    assert values.keys() == numbered(8).keys()
    assert os.getpid() not in values.values()
    assert len(set(values.values())) == 2
    assert (report.objects, report.state) == (8, "finished")
    no_process_is_left()


@pytest.mark.slow
async def test_no_command_line_shows_a_credential(place: Place) -> None:
    await place.storage.upload_file("a", b"")
    report = await run_job(place.job("environment"), engine=LocalEngine(processes=1))
    (command,) = (await place.values(report)).values()
    secret = place.storage.settings.application_key
    assert secret is not None
    assert len(command) > 2
    assert not any(secret.get_secret_value() in argument for argument in command)
    assert not any("place.env" in argument for argument in command)


@pytest.mark.slow
async def test_a_killed_process_is_replaced_and_its_shard_runs_again(
    place: Place, no_process_is_left: Callable[[], None]
) -> None:
    await fill(place.storage, numbered(6))
    job = place.job("dies_once", prefix="recordings/", shard_keys=3)
    report = await run_job(job, engine=LocalEngine(processes=2))
    assert (report.state, report.objects, report.errors) == ("finished", 6, 0)
    assert (await place.values(report)).keys() == numbered(6).keys()
    no_process_is_left()


@pytest.mark.slow
async def test_a_shard_that_ends_its_processes_is_left_out_and_the_rest_goes_on(
    place: Place, no_process_is_left: Callable[[], None]
) -> None:
    await fill(place.storage, {f"calls/{number}": b"" for number in range(8)})
    engine = LocalEngine(processes=1)

    job = place.job("dies_at_3", prefix="calls/", shard_keys=2)
    report = await run_job(job, engine=engine)

    assert (report.state, report.objects) == ("stopped", 6)
    assert [(lost.after, lost.until) for lost in report.lost] == [("calls/1", "calls/3")]
    assert "WorkerLostError" in (report.stopped_by or "")

    await place.storage.delete_file("calls/3")
    again = await resume_job(report.job.job_id, place.location, engine=engine)
    assert (again.state, again.objects, again.lost) == ("finished", 7, [])
    no_process_is_left()


@pytest.mark.slow
async def test_a_job_all_of_whose_processes_die_stops(
    place: Place, no_process_is_left: Callable[[], None]
) -> None:
    await fill(place.storage, {f"calls/{number}": b"" for number in range(8)})
    job = place.job("dies", prefix="calls/", shard_keys=1)
    with pytest.raises(WorkerLostError, match="signal 9"):
        await run_job(job, engine=LocalEngine(processes=1))
    no_process_is_left()


@pytest.mark.slow
async def test_errors_come_out_of_a_process_as_themselves(place: Place) -> None:
    await place.storage.upload_file("a", b"")
    with pytest.raises(InvalidCredentialsError, match="unknown"):
        await run_job(place.job("refused"), engine=LocalEngine(processes=1))
    with pytest.raises(InvalidInputError, match="cannot be imported"):
        await run_job(place.job("nowhere"), engine=LocalEngine(processes=1))


@pytest.mark.slow
async def test_a_cancelled_job_ends_its_processes(
    place: Place, server: B2Server, no_process_is_left: Callable[[], None]
) -> None:
    await fill(place.storage, numbered(4))
    job = place.job("waits", prefix="recordings/", shard_keys=1)
    begun = Begun(server)
    running = asyncio.create_task(run_job(job, engine=LocalEngine(processes=2)))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    no_process_is_left()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
async def test_processes_end_with_their_parent(
    place: Place, server: B2Server, how: signal.Signals, tmp_path: Path
) -> None:
    await fill(place.storage, numbered(4))
    begun = Begun(server)
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, f"{FUNCTIONS}:waits", str(place.location.env_file)),
        cwd=tmp_path,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await begun.wait()
    finally:
        parent.send_signal(how)
        await parent.wait()
    for file in await place.storage.list_files("begun/"):
        await ended(int(file.key.removeprefix("begun/")))


class Begun:
    """Notices that the function `waits` runs in two processes."""

    def __init__(self, server: B2Server) -> None:
        # The response is held back, so that the file is stored when it is noticed.
        self._rules = [
            server.faults.next("PutObject", key="^begun/", cut="hang", at="resp") for _ in range(2)
        ]

    async def wait(self) -> None:
        for rule in self._rules:
            await rule.fired.wait()


async def ended(pid: int) -> None:
    """Wait until a process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    has_ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, has_ended.set)
    try:
        await has_ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


@pytest.mark.parametrize("options", [{"shards": 0}, {"processes": 0}, {"processes": True}])
def test_numbers_of_an_engine(options: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError, match="int of at least 1"):
        LocalEngine(**options)


def test_a_job_is_the_same_in_json() -> None:
    job = MapJob("a.b:c", prefix="calls/", concurrency=3, timeout=2.5)
    assert MapJob.model_validate_json(job.model_dump_json()) == job
