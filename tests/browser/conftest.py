"""The bucket that pages upload to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.testing import B2Server


@pytest.fixture
async def emulated_bucket(server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(server.settings()) as opened:
        yield opened


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> BackblazeStorage:
    """A bucket of the emulator; on SeaweedFS, too, in tests with `on_both_servers`."""
    name = "emulated_bucket" if getattr(request, "param", "") != "seaweed" else "seaweed_storage"
    found: BackblazeStorage = request.getfixturevalue(name)
    return found
