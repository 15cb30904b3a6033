"""An S3 server for development and tests, on this machine and gone afterwards.

::

    async with LocalServer() as server, BackblazeStorage(server.settings()) as storage:
        await storage.upload_recording("CA123", body, "recording.webm")

It is SeaweedFS (``weed mini``), the nearest to Backblaze B2 of the servers that pip can install:
exact signatures, versions, delete markers, CORS, limited keys. The extra ``local`` brings its
binary.

It differs from B2 in the order of listings (not in UTF-8 byte order), in keys with ``//`` or a
backslash (both become one ``/``) and in conditional multipart uploads (several may win). The page
docs/reference.md lists what an app may notice.

It listens on loopback only and sends no reports. But every user of this machine can
reach its inner ports, which ask for no key: it is not a place for real recordings.
"""

from __future__ import annotations

from careflow_storage.local.process import LocalServerError
from careflow_storage.local.server import Identity, LocalServer

__all__ = ["Identity", "LocalServer", "LocalServerError"]
