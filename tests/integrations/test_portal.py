"""The portal: synchronous callers share one storage, and an interrupted call cleans up."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from datetime import timedelta

import pytest

from careflow_storage import (
    BackblazeStorage,
    InvalidInputError,
    NotConfiguredError,
    RateLimit,
    StorageClosedError,
    StorageSettings,
    WrongLoopError,
)
from careflow_storage.integrations.portal import StoragePortal
from careflow_storage.testing import B2Server
from tests.support.bodies import MIB, noise
from tests.support.hooks import Recorder


class OutOfTimeError(Exception):
    """What a framework raises in the thread of a task."""


class Caller:
    """A thread that calls the portal, as a worker's does."""

    def __init__(self, portal: StoragePortal, function: object) -> None:
        self.outcome: object = None
        self._portal, self._function = portal, function
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self._portal.call(self._function)  # type: ignore[arg-type]  # any
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.outcome = error

    def interrupt(self) -> None:
        """Raise an exception in the thread, as Dramatiq does."""
        ident = ctypes.c_long(self._thread.ident or 0)
        assert (
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(OutOfTimeError)) == 1
        )

    def end(self) -> object:
        """Wait for its end; return the result or the error."""
        self._thread.join()
        return self.outcome


@pytest.fixture
def of_bucket(server: B2Server) -> StorageSettings:
    return server.settings(part_size=5 * MIB, multipart_threshold=5 * MIB)


@pytest.fixture
def portal(of_bucket: StorageSettings) -> Iterator[StoragePortal]:
    # A machine that runs tests may be too busy for what is enough elsewhere.
    with StoragePortal(of_bucket, grace=60) as portal:
        yield portal


async def itself(storage: BackblazeStorage) -> BackblazeStorage:
    return storage


def test_methods_of_the_storage_and_functions_run_with_all_their_arguments(
    portal: StoragePortal,
) -> None:
    async def sizes(storage: BackblazeStorage, *, prefix: str) -> list[int]:
        return [file.size for file in await storage.list_files(prefix)]

    stored = portal.call(BackblazeStorage.upload_recording, "CA1", b"sound", "a.wav")
    assert portal.call(BackblazeStorage.get_file, stored.key) == b"sound"
    assert portal.call(BackblazeStorage.get_file_metadata, key=stored.key).size == 5
    assert portal.call(sizes, prefix="recordings/CA1/") == [5]


def test_hooks_and_a_rate_limit_are_those_of_the_storage(of_bucket: StorageSettings) -> None:
    recorder = Recorder()
    with StoragePortal(
        of_bucket, hooks=[recorder], rate_limit=RateLimit(per_second=1000)
    ) as portal:
        portal.call(BackblazeStorage.list_files)
    assert "list_files" in [call.method for call in recorder.calls]


def test_all_threads_use_one_storage_at_the_same_time(portal: StoragePortal) -> None:
    together = asyncio.Barrier(5)

    async def meet(storage: BackblazeStorage) -> BackblazeStorage:
        await together.wait()
        return storage

    callers = [Caller(portal, meet) for _ in range(5)]
    storages = [caller.end() for caller in callers]
    assert storages == [portal.call(itself)] * 5


def test_errors_and_context_variables_cross_the_threads(portal: StoragePortal) -> None:
    variable = contextvars.ContextVar("variable", default="none")
    variable.set("the caller's")

    async def read(_: BackblazeStorage) -> str:
        return variable.get()

    async def leave(_: BackblazeStorage) -> None:
        raise SystemExit(3)

    assert portal.call(read) == "the caller's"
    with pytest.raises(FileNotFoundError):
        portal.call(BackblazeStorage.get_file, "missing")
    with pytest.raises(TimeoutError, match="of its own"):
        portal.call(_raise, TimeoutError("of its own"))
    with pytest.raises(SystemExit):
        portal.call(leave)
    assert portal.call(read) == "the caller's"


async def _raise(_: BackblazeStorage, error: Exception) -> None:
    raise error


def test_an_interrupted_upload_is_aborted_before_the_interruption_is_raised(
    server: B2Server, portal: StoragePortal
) -> None:
    half = threading.Event()

    async def upload(storage: BackblazeStorage) -> None:
        async def chunks() -> object:
            yield noise(6 * MIB)
            half.set()
            await asyncio.Event().wait()

        await storage.upload_file("new", chunks())  # type: ignore[arg-type]  # an iterator

    caller = Caller(portal, upload)
    assert half.wait(60)
    caller.interrupt()
    assert isinstance(caller.end(), OutOfTimeError)
    assert server.incomplete_uploads() == []
    assert portal.call(BackblazeStorage.list_files) == []


def test_an_interruption_waits_for_the_clean_up(portal: StoragePortal) -> None:
    begun, cleaned = threading.Event(), []

    async def work(storage: BackblazeStorage) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(await storage.list_files())

    caller = Caller(portal, work)
    assert begun.wait(60)
    caller.interrupt()
    assert isinstance(caller.end(), OutOfTimeError)
    assert cleaned == [[]]


@pytest.mark.parametrize("in_a_call", [True, False], ids=["in a call", "between calls"])
def test_closing_cuts_off_what_runs(
    server: B2Server, of_bucket: StorageSettings, in_a_call: bool
) -> None:
    portal, begun = StoragePortal(of_bucket, grace=60), threading.Event()

    async def work(storage: BackblazeStorage) -> None:
        async def chunks() -> object:
            yield noise(6 * MIB)
            begun.set()
            await asyncio.Event().wait()

        if in_a_call:
            await storage.upload_file("new", chunks())  # type: ignore[arg-type]  # an iterator
        begun.set()
        await asyncio.Event().wait()

    caller = Caller(portal, work)
    assert begun.wait(60)
    portal.close()
    assert isinstance(caller.end(), StorageClosedError)
    assert server.incomplete_uploads() == []
    with pytest.raises(StorageClosedError, match="closed"):
        portal.call(itself)
    portal.close()


def test_a_portal_that_was_never_used_closes() -> None:
    with StoragePortal() as portal:
        pass
    with pytest.raises(StorageClosedError):
        portal.call(itself)


def test_missing_settings_are_named_at_each_call() -> None:
    with StoragePortal() as portal:
        for _ in range(2):
            with pytest.raises(NotConfiguredError, match="BACKBLAZE_KEY_ID"):
                portal.call(itself)


def test_a_bad_grace_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="grace"):
        StoragePortal(grace=-1)


async def test_a_running_event_loop_is_not_blocked(portal: StoragePortal) -> None:
    with pytest.raises(WrongLoopError, match="loop runs in this thread"):
        portal.call(itself)


@pytest.mark.parametrize("name", ["gevent.monkey", "eventlet.patcher"])
def test_green_threads_are_refused(
    portal: StoragePortal, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    module = types.ModuleType(name)
    vars(module).update(
        is_module_patched=lambda of: of == "threading", is_monkey_patched=lambda of: of == "thread"
    )
    monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(WrongLoopError, match="gevent"):
        portal.call(itself)


FORKS = """
import os, sys
from careflow_storage import BackblazeStorage
from careflow_storage.integrations.portal import StoragePortal

portal = StoragePortal()
key = portal.call(BackblazeStorage.upload_recording, "CA1", b"sound", "a.wav").key
child = os.fork()
if child == 0:
    right = portal.call(BackblazeStorage.get_file, key) == b"sound"
    portal.close()
    os._exit(0 if right else 1)
assert os.waitpid(child, 0)[1] == 0
assert portal.call(BackblazeStorage.get_file, key) == b"sound"
# Not closed: its storage closes at the exit.
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_after_a_fork_parent_and_child_each_have_their_own(server: B2Server) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", FORKS],
        env=server.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_stale_uploads_are_aborted_and_counted(server: B2Server, portal: StoragePortal) -> None:
    assert portal.stale_uploads_job(timedelta(days=1))() == 0
    for age in (timedelta(), timedelta(days=-1), 3600):
        with pytest.raises(InvalidInputError, match="older_than"):
            portal.stale_uploads_job(age)  # type: ignore[arg-type]  # the point
