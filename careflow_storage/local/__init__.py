"""A temporary S3 server on this machine, for development and tests.

::

    async with LocalServer() as server, BackblazeStorage(server.settings()) as storage:
        await storage.upload_recording("CA123", body, "recording.webm")

The server is SeaweedFS (``weed mini``). Of the servers that pip can install, it is the most like
Backblaze B2: exact signatures, versions, delete markers, CORS, limited keys. The extra ``local``
installs its binary.

It differs from B2 in the order of listings (not UTF-8 byte order), in keys with ``//`` or a
backslash (both become one ``/``) and in conditional multipart uploads (several may succeed).
docs/reference.md lists the differences that an app may notice.

The server listens on loopback only and sends no telemetry. But its internal ports require no key,
and every user of this machine can connect to them: do not store real recordings in it.
"""

from __future__ import annotations

from careflow_storage.local.process import LocalServerError
from careflow_storage.local.server import Identity, LocalServer

__all__ = ["Identity", "LocalServer", "LocalServerError"]
