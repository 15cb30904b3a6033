"""Storages on the two servers that encrypt and lock truly: the emulator and SeaweedFS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, CustomerKey, StorageSettings
from careflow_storage.testing import B2Server
from tests.support.bodies import MIB

KEY, OTHER_KEY = CustomerKey.generate(), CustomerKey.generate()
BOTH = [
    pytest.param("emulator"),
    pytest.param("seaweedfs", marks=pytest.mark.integration),
]


@dataclass
class Place:
    """A storage on one of them, whose parts have ``part`` bytes."""

    storage: BackblazeStorage
    part: int


@pytest.fixture(scope="module")
def b2_server() -> Iterator[B2Server]:
    """An emulator whose parts may be small."""
    with B2Server(min_part_size=1) as server:
        yield server


def settings_on(server: str, request: pytest.FixtureRequest) -> tuple[StorageSettings, int]:
    """The settings for a server of `BOTH`, and the size of its parts."""
    if server == "seaweedfs":
        return request.getfixturevalue("seaweed_settings"), 5 * MIB
    emulator: B2Server = request.getfixturevalue("b2_server")
    emulator.reset()
    return emulator.settings(), 300 * 1024


@asynccontextmanager
async def opened(settings: StorageSettings, part: int, **changes: Any) -> AsyncIterator[Place]:
    """Open it with small parts, past a validation that knows what real servers allow."""
    copy = settings.model_copy(update=changes)
    copy.__dict__.update(part_size=part, multipart_threshold=part, memory_budget=4 * part)
    async with BackblazeStorage(copy) as storage:
        yield Place(storage, part)
