"""File systems on the emulator and on SeaweedFS, whose settings are in the environment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from careflow_storage.integrations.fsspec import CareflowFileSystem
from careflow_storage.local import LocalServer
from careflow_storage.settings import StorageSettings
from careflow_storage.testing import B2Server


@pytest.fixture
def fs(server: B2Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[CareflowFileSystem]:
    """The file system of the emulator's bucket."""
    # Small parts, so that files of some MiB are sent in several.
    for name, value in (*server.environment().items(), ("BACKBLAZE_PART_SIZE", "5MiB")):
        monkeypatch.setenv(name, value)
    opened = CareflowFileSystem(skip_instance_cache=True)
    yield opened
    opened.close()


@pytest.fixture
def seaweed_fs(
    seaweedfs: LocalServer, seaweed_settings: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CareflowFileSystem]:
    """The file system of a new bucket of the real server."""
    for name, value in seaweedfs.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BACKBLAZE_BUCKET_NAME", str(seaweed_settings.bucket_name))
    opened = CareflowFileSystem(skip_instance_cache=True)
    yield opened
    opened.close()
