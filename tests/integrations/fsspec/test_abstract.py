"""fsspec's own tests for every file system."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fsspec.tests import abstract

from careflow_storage.integrations.fsspec import CareflowFileSystem

pytestmark = pytest.mark.slow


class Fixtures(abstract.AbstractFixtures):
    # On the emulator the project's own tests run, too.
    @pytest.fixture(params=["seaweed_fs", pytest.param("fs", marks=pytest.mark.exhaustive)])
    def fs(self, request: pytest.FixtureRequest) -> CareflowFileSystem:
        found: CareflowFileSystem = request.getfixturevalue(request.param)
        return found

    @pytest.fixture
    def fs_path(self) -> str:
        return "test"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    pass
