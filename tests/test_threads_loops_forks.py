"""The hints of `WrongLoopError` name the pattern for where it happened, and the page shows it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from careflow_storage import BackblazeStorage, StorageError, WrongLoopError
from careflow_storage.outbox import Outbox
from careflow_storage.testing import B2Server
from tests.support.served import served
from tests.test_docs import DOCUMENTS, python_blocks, reader

__all__ = ["reader"]

PAGE = next(path for path in DOCUMENTS if path.name == "threads-loops-forks.md")
TESTS = [block for _, block in python_blocks(PAGE) if "def test_" in block]


@pytest.mark.integration
@pytest.mark.parametrize("block", TESTS, ids=["a loop for each test", "a loop for the module"])
def test_the_tests_on_the_page_pass(block: str, reader: Path) -> None:
    scope = "asyncio_default_fixture_loop_scope = function"
    (reader / "pytest.ini").write_text(f"[pytest]\nasyncio_mode = auto\n{scope}\n")
    (reader / "test_pasted.py").write_text(block, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    finished = subprocess.run(
        command, cwd=reader, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert f"{block.count('def test_')} passed" in finished.stdout


@pytest.mark.integration
@pytest.mark.usefixtures("reader")
async def test_the_synchronous_endpoint_on_the_page_works() -> None:
    (block,) = (block for _, block in python_blocks(PAGE) if "FastAPI(" in block)
    namespace: dict[str, Any] = {"__name__": "pasted"}
    exec(block, namespace)  # noqa: S102 - it is our own
    async with served(namespace["app"], lifespan="on") as address, httpx.AsyncClient() as client:
        response = await client.put(f"{address}/notes/a")
    assert (response.status_code, response.json()) == (200, "notes/a")
    async with BackblazeStorage() as storage:
        assert await storage.get_file("notes/a") == b"a note on a"


def assert_names(error: StorageError, title: str, *words: str) -> None:
    """The hint names a title of the page, and has these words."""
    hint = error.hint or ""
    assert hint.endswith(f" See {title!r} in docs/threads-loops-forks.md.")
    assert f"\n## {title}\n" in PAGE.read_text(encoding="utf-8")
    for word in words:
        assert word in hint


def caught(call: Callable[[], Any]) -> WrongLoopError:
    with pytest.raises(WrongLoopError) as info:
        call()
    return info.value


async def test_in_a_thread_beside_the_loop(server: B2Server) -> None:
    async with BackblazeStorage(server.settings()) as storage:

        def endpoint() -> Any:
            return asyncio.run(storage.get_file("a"))

        title = "A synchronous endpoint, or a thread"
        error = await asyncio.to_thread(caught, endpoint)
        assert_names(error, title, "anyio.from_thread.run()", "run_coroutine_threadsafe()")
        error = await asyncio.to_thread(caught, lambda: storage.stream_file("a"))
        assert_names(error, title, "anyio.from_thread.run()", "run_coroutine_threadsafe()")
        assert "none runs here" in str(error)


async def test_an_outbox_in_a_thread_beside_the_loop(server: B2Server, tmp_path: Path) -> None:
    async with (
        BackblazeStorage(server.settings()) as storage,
        Outbox(tmp_path / "outbox", storage) as outbox,
    ):
        error = await asyncio.to_thread(caught, lambda: asyncio.run(outbox.status()))
    assert_names(error, "A synchronous endpoint, or a thread", "of the outbox")


def test_in_another_loop_of_a_test(server: B2Server) -> None:
    storage = BackblazeStorage(server.settings())
    with asyncio.Runner() as fixture:
        fixture.run(storage.initialize())
        error = caught(lambda: asyncio.run(storage.get_file("a")))
        assert_names(error, "An event loop for each test", "fixture", "loop_scope")
        fixture.run(storage.close())


def test_in_the_second_run_of_a_script(server: B2Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    storage = BackblazeStorage(server.settings())
    asyncio.run(storage.initialize())
    error = caught(lambda: asyncio.run(storage.get_file("a")))
    assert_names(error, "A script", "asyncio.run()", "StoragePortal")
    asyncio.run(storage.close())


def test_in_a_loop_beside_one_that_waits(server: B2Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    storage = BackblazeStorage(server.settings())
    with asyncio.Runner() as first:
        first.run(storage.initialize())
        error = caught(lambda: asyncio.run(storage.get_file("a")))
        assert_names(error, "One storage for each loop", "in each event loop")
        first.run(storage.close())


# Each opens a storage, forks, and prints the hint that the child gets.
FORK = """
    import asyncio, os, warnings
    from careflow_storage import BackblazeStorage, WrongLoopError

    loop = asyncio.new_event_loop()
    storage = BackblazeStorage()
    loop.run_until_complete(storage.initialize())
    warnings.simplefilter("ignore", DeprecationWarning)

    def child():
        try:
            loop.run_until_complete(storage.get_file("a"))
        except WrongLoopError as error:
            print(error.hint, flush=True)
"""
PLAIN = """
    if os.fork() == 0:
        child()
        os._exit(0)
    os.wait()
"""
MULTIPROCESSING = """
    import multiprocessing
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
"""
# Not installed here: only its name counts.
GUNICORN = """
    import sys, types
    sys.modules["gunicorn"] = types.ModuleType("gunicorn")
"""
FORKS = {
    "os.fork": (PLAIN, "in each process"),
    "multiprocessing": (MULTIPROCESSING, "'spawn'"),
    "gunicorn": (GUNICORN + PLAIN, "lifespan"),
    "celery": ("    import celery\n" + PLAIN, "careflow_storage.integrations.celery.install"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.parametrize(("how", "words"), FORKS.values(), ids=FORKS.keys())
def test_after_a_fork(server: B2Server, how: str, words: str, tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK) + textwrap.dedent(how)],
        env=server.environment(),
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert_names(StorageError("", hint=finished.stdout.strip()), "After a fork", words)
