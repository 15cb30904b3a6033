"""The errors for what is used outside of its event loop or process, with the pattern that fits.

docs/threads-loops-forks.md describes these patterns, under the titles that the hints name.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress

from careflow_storage.errors import WrongLoopError

_PAGE = "docs/threads-loops-forks.md"


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop of this thread; None if none runs."""
    with suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None


def other_process_error(what: str) -> WrongLoopError:
    """Return the error for ``what``, such as a storage, that was opened before a fork."""
    return WrongLoopError(
        f"The {what} was opened before this process was forked.",
        hint=_titled("After a fork", _fork_hint(what)),
    )


def other_loop_error(what: str, home: asyncio.AbstractEventLoop) -> WrongLoopError:
    """Return the error for ``what``, such as a storage, that ``home`` has opened."""
    here = running_loop()
    where = "in another event loop" if here else "in an event loop, and none runs here"
    return WrongLoopError(f"The {what} was opened {where}.", hint=_loop_hint(what, home))


def _fork_hint(what: str) -> str:
    if "celery" in sys.modules:
        return (
            "careflow_storage.integrations.celery.install(app) opens one in each worker process, "
            "at its first task."
        )
    if "gunicorn" in sys.modules:
        return (
            f"Open the {what} in the app's lifespan, which runs in each worker; with --preload the "
            "app's module is imported before the fork."
        )
    if _is_child_of_multiprocessing():
        return f"Open the {what} in the function that the child runs, or start it by 'spawn'."
    return f"Open one {what} in each process, after the fork."


def _is_child_of_multiprocessing() -> bool:
    # Only that module knows, and a process that has not loaded it is none of its children.
    module = sys.modules.get("multiprocessing.process")
    return module is not None and module.parent_process() is not None


def _loop_hint(what: str, home: asyncio.AbstractEventLoop) -> str:
    if home.is_running():
        return _titled(
            "A synchronous endpoint, or a thread",
            f"The loop of the {what} runs in another thread: await there, with "
            "anyio.from_thread.run() or asyncio.run_coroutine_threadsafe().",
        )
    if "PYTEST_CURRENT_TEST" in os.environ:
        return _titled(
            "An event loop for each test",
            f"Open the {what} in a fixture of the test's own loop, or give both the same "
            "loop_scope.",
        )
    if home.is_closed():
        return _titled(
            "A script",
            "Each asyncio.run() has a loop of its own: call it once, or call the StoragePortal "
            "of careflow_storage.integrations.portal from synchronous code.",
        )
    return _titled(
        "One storage for each loop", f"Open one {what} in each event loop, and close it there."
    )


def _titled(title: str, hint: str) -> str:
    return f"{hint} See {title!r} in {_PAGE}."
