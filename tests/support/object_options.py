"""One value of each option of an object, and where the emulator shows that it arrived."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from careflow_storage import ObjectOptions, Retention
from careflow_storage.testing import B2Server
from tests.support.protected import Place, opened, settings_on

TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
OPTIONS: ObjectOptions = {
    "content_type": "audio/x-own",
    "metadata": {"agent": "42"},
    "cache_control": "no-store",
    "content_disposition": 'attachment; filename="call.wav"',
    "checksum": "sha256",
    "encryption": "SSE-B2",
    "retention": Retention(mode="governance", retain_until=TOMORROW),
    "legal_hold": True,
}
NAMES = sorted(ObjectOptions.__optional_keys__)


@pytest.fixture
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """The emulator, whose bucket can lock files."""
    async with opened(*settings_on("emulator", request)) as found:
        await found.storage.admin.set_object_lock()
        yield found


def only(name: str) -> ObjectOptions:
    """Return one of the options."""
    one: ObjectOptions = {name: OPTIONS[name]}  # type: ignore[misc]  # name is one of its keys
    return one


async def assert_stored(server: B2Server, place: Place, key: str, name: str) -> None:
    """See an option in a HEAD, or for a checksum in what was sent."""
    storage = place.storage
    file = await storage.get_file_metadata(key)
    found: ObjectOptions = {
        "content_type": file.content_type,
        "metadata": file.metadata,
        "cache_control": file.cache_control,
        "content_disposition": file.content_disposition,
        "checksum": "sha256" if _sent_sha256(server) else "md5",
        "encryption": file.encryption,  # type: ignore[typeddict-item]  # the test compares it
        "retention": file.retention,
        "legal_hold": file.legal_hold,
    }
    assert found[name] == OPTIONS[name]  # type: ignore[literal-required]  # a key of both


def _sent_sha256(server: B2Server) -> bool:
    return any("x-amz-checksum-sha256" in each.headers for each in server.requests)
