"""Fixtures for your tests, that you ask for in your ``conftest.py``.

::

    pytest_plugins = ["careflow_storage.testing.plugin"]

``b2_server`` is a `B2Server` that starts once per session; each test finds it as new, with an
empty bucket, and without faults, caps or skew. ``storage`` is a `BackblazeStorage` open on it,
and ``recordings`` are three small real recordings by filename. ``b2_settings`` and
``b2_server_options`` are there to be overridden.

It is not loaded by itself: an entry point would import this package in every pytest run of
every project that has it installed.
"""

from __future__ import annotations

import math
import wave
from array import array
from collections.abc import AsyncIterator, Iterator
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


@pytest.fixture(scope="session")
def b2_server_options() -> dict[str, Any]:
    """What `B2Server` is made with; override it, for example with ``min_part_size``."""
    return {}


@pytest.fixture(scope="session")
def _b2_server_of_the_session(b2_server_options: dict[str, Any]) -> Iterator[B2Server]:
    with B2Server(**b2_server_options) as server:
        yield server


@pytest.fixture
def b2_server(_b2_server_of_the_session: B2Server) -> Iterator[B2Server]:
    """The emulator of B2, as new for each test. It starts once, in 1 to 2 seconds."""
    yield _b2_server_of_the_session
    _b2_server_of_the_session.reset()


@pytest.fixture
def b2_settings(b2_server: B2Server) -> StorageSettings:
    """What ``storage`` is opened with: retries wait for milliseconds. Made to be overridden."""
    # A developer's .env file is not for tests.
    return b2_server.settings(_env_file=None)


@pytest_asyncio.fixture
async def storage(b2_settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    """A `BackblazeStorage`, open on the emulator's empty bucket."""
    async with BackblazeStorage(b2_settings) as opened:
        yield opened


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Recordings by filename, to be read only.

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
