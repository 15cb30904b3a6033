"""What the tests of jobs share: engines, and a source and a target."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.jobs import DaskEngine, Engine, LocalEngine
from careflow_storage.testing import B2Server
from tests.support.jobs import Buckets, location_of

MakeEngine = Callable[[], Engine]

TARGET = "careflow-copies"


# Not for the session: its thread uses `random`, of which Hypothesis complains in other modules.
@pytest.fixture(scope="module")
def dask_cluster() -> Iterator[Any]:
    """A cluster of two workers, in one thread of this process."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2,
        threads_per_worker=2,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        # Any port: the HTTP server runs without a dashboard, too.
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
    ) as cluster:
        yield cluster


@pytest.fixture(params=["local", "dask"])
def make_engine(request: pytest.FixtureRequest) -> MakeEngine:
    """Makes an engine for one call; the tests that take it run on each kind of engine."""
    if request.param == "dask":
        address: str = request.getfixturevalue("dask_cluster").scheduler_address
        return lambda: DaskEngine(address)
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
