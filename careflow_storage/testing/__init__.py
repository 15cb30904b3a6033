"""For your own tests: an emulator of Backblaze B2, and fault injection.

::

    with B2Server() as server:  # or async with; in this process, ready in about 1.5 s
        server.faults.next("UploadPart", status=503, code="ServiceUnavailable", times=3)
        async with BackblazeStorage(server.settings()) as storage:
            ...
        assert server.incomplete_uploads() == []

`B2Server` follows B2's rules where B2 differs from other S3 servers. `FaultProxy` injects the
same faults in front of any other server. The pytest plugin is `careflow_storage.testing.plugin`.
Install the extra ``testing``.
"""

from __future__ import annotations

from careflow_storage.testing.b2.keys import ApplicationKey
from careflow_storage.testing.b2.stored import StoredUpload, StoredVersion
from careflow_storage.testing.proxy.faults import Faults
from careflow_storage.testing.proxy.proxy import FaultProxy
from careflow_storage.testing.proxy.rule import Attempt, Rule
from careflow_storage.testing.server import B2Server

__all__ = [
    "ApplicationKey",
    "Attempt",
    "B2Server",
    "FaultProxy",
    "Faults",
    "Rule",
    "StoredUpload",
    "StoredVersion",
]
