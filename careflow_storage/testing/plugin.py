"""Fixtures for your tests. Load them in your ``conftest.py``.

::

    pytest_plugins = ["careflow_storage.testing.plugin"]

``b2_server`` is a `B2Server` that starts once per session, for fixtures of any scope; each test
resets it: one empty bucket, no faults, caps or skew. ``storage``
is a `BackblazeStorage` open on it, in the event loop of the test: that of any scope of
pytest-asyncio, or of anyio's plugin. ``recordings`` are three small real recordings by filename.
Override ``b2_settings`` and ``b2_server_options`` to change them.

It is not loaded automatically: an entry point would import this package in every pytest run of
every project that has it installed.
"""

from __future__ import annotations

import math
import wave
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage
from careflow_storage.testing.server import B2Server

_SHIPPED = ("greeting.ogg", "greeting.webm")
_TELEPHONE_RATE = 8000
_STARTED = pytest.StashKey[B2Server]()


@pytest.fixture(scope="session")
def b2_server_options() -> dict[str, Any]:
    """The arguments of `B2Server`; override it, for example with ``min_part_size``."""
    return {}


@pytest.fixture(scope="session")
def b2_server(
    b2_server_options: dict[str, Any], request: pytest.FixtureRequest
) -> Iterator[B2Server]:
    """The B2 emulator, reset after each test. It starts once, in 1 to 2 seconds.

    It runs in its own thread: tests on any event loop, or on none, can use it.
    """
    with B2Server(**b2_server_options) as server:
        request.config.stash[_STARTED] = server
        yield server
    del request.config.stash[_STARTED]


@pytest.fixture(autouse=True)
def _b2_server_as_new(request: pytest.FixtureRequest) -> Iterator[None]:
    # Set up before, and so ended after, the fixtures that a test requests.
    yield
    server = request.config.stash.get(_STARTED, None)
    if server is not None and "b2_server" in request.fixturenames:
        server.reset()


@pytest.fixture
def b2_settings(b2_server: B2Server) -> StorageSettings:
    """The settings of ``storage``: retries wait for milliseconds. Override it to change them."""
    # Tests do not read a developer's .env file.
    return b2_server.settings(_env_file=None)


def _storage_in(loop: str, mark: Callable[..., Any]) -> Any:
    """Return a fixture that opens a storage in one of the loops in which tests run."""

    # One function each: pytest-asyncio stores the scope of the loop on it.
    async def opened(b2_settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
        async with BackblazeStorage(b2_settings) as storage:
            yield storage

    return mark(opened, name=f"_storage_in_{loop}_loop")


_in_function_loop = _storage_in("function", partial(pytest_asyncio.fixture, loop_scope="function"))
_in_class_loop = _storage_in("class", partial(pytest_asyncio.fixture, loop_scope="class"))
_in_module_loop = _storage_in("module", partial(pytest_asyncio.fixture, loop_scope="module"))
_in_package_loop = _storage_in("package", partial(pytest_asyncio.fixture, loop_scope="package"))
_in_session_loop = _storage_in("session", partial(pytest_asyncio.fixture, loop_scope="session"))
_in_anyio_loop = _storage_in("anyio", pytest.fixture)


@pytest.fixture
def storage(request: pytest.FixtureRequest, b2_settings: StorageSettings) -> BackblazeStorage:
    """A `BackblazeStorage`, open on the emulator's empty bucket, in the event loop of the test."""
    opened: BackblazeStorage = request.getfixturevalue(f"_storage_in_{_loop_of(request)}_loop")
    return opened


def _loop_of(request: pytest.FixtureRequest) -> str:
    """Name the loop in which a test runs: that of a scope of pytest-asyncio, or anyio's."""
    mark = request.node.get_closest_marker("asyncio")
    if mark is None and "anyio_backend" in request.fixturenames:
        return "anyio"
    given = mark.kwargs if mark is not None else {}
    default = request.config.getini("asyncio_default_test_loop_scope")
    return str(given.get("loop_scope") or given.get("scope") or default or "function")


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Recordings by filename, for reading only.

    ``greeting.webm`` (24,688 bytes, Opus, as browsers record) and ``greeting.ogg`` (22,683
    bytes, Opus, as messengers do) are seven seconds of synthetic speech. ``tone.wav`` (16,044
    bytes, PCM, as a telephone line does) is a second of 440 Hz.
    """
    folder = tmp_path_factory.mktemp("recordings")
    found = {name: folder / name for name in (*_SHIPPED, "tone.wav")}
    for name in _SHIPPED:
        found[name].write_bytes((resources.files(__package__) / "data" / name).read_bytes())
    wave_of = (math.sin(2 * math.pi * 440 * n / _TELEPHONE_RATE) for n in range(_TELEPHONE_RATE))
    with wave.open(str(found["tone.wav"]), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_TELEPHONE_RATE)
        file.writeframes(array("h", (round(16_000 * value) for value in wave_of)).tobytes())
    return found
