"""Fixtures of the uploads from URLs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import storage_behind


@pytest.fixture
async def small_parts(settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    """A storage for which a megabyte is a multipart upload."""
    async with (
        FaultProxy(settings.endpoint or "") as proxy,
        storage_behind(proxy, settings) as opened,
    ):
        await opened.client()
        yield opened
