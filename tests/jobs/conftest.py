"""What the tests of jobs share: engines, and a source and a target."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.jobs import Engine, LocalEngine
from careflow_storage.testing import B2Server
from tests.support.jobs import Buckets, location_of

MakeEngine = Callable[[], Engine]

TARGET = "careflow-copies"


@pytest.fixture(params=["local"])
def make_engine(request: pytest.FixtureRequest) -> MakeEngine:
    """Makes an engine for one call; the tests that take it run on each kind of engine."""
    return LocalEngine


@pytest.fixture
async def buckets(server: B2Server, tmp_path: Path) -> AsyncIterator[Buckets]:
    """Two buckets of the emulator, as of two accounts: the server does not copy between them."""
    server.create_bucket(TARGET)
    source = server.settings()
    target = server.settings(key=server.create_key(), bucket_name=TARGET)
    async with BackblazeStorage(source) as first, BackblazeStorage(target) as second:
        yield Buckets(
            location_of(source, tmp_path / "source.env"),
            location_of(target, tmp_path / "target.env"),
            first,
            second,
        )
