"""Several emulators in one process do not disturb each other."""

from __future__ import annotations

import asyncio

from careflow_storage import BackblazeStorage
from careflow_storage.testing import B2Server


async def test_servers_that_work_at_the_same_time_keep_their_objects_apart() -> None:
    with B2Server() as one, B2Server() as other:
        async with (
            BackblazeStorage(one.settings()) as first,
            BackblazeStorage(other.settings()) as second,
        ):
            bodies = [bytes([number]) * 100_000 for number in range(100)]
            async with asyncio.TaskGroup() as group:
                for number, body in enumerate(bodies):
                    group.create_task(first.upload_file(f"{number}", body))
                    group.create_task(second.upload_file(f"{number}", body))
        for server in (one, other):
            assert len(server.requests) == 100
            for number, body in enumerate(bodies):
                assert [version.body for version in server.versions(f"{number}")] == [body]
