"""What the tests of the command share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from careflow_storage.testing import B2Server


@pytest.fixture(scope="session")
def running_server() -> Iterator[B2Server]:
    with B2Server() as server:
        yield server


@pytest.fixture
def server(running_server: B2Server) -> B2Server:
    """The emulator of B2, empty."""
    running_server.reset()
    return running_server
