"""Functions that jobs call for each object."""

from __future__ import annotations

from careflow_storage import BackblazeStorage, FileInfo


async def touch(storage: BackblazeStorage, file: FileInfo) -> None:
    """Look at the object."""
    assert await storage.file_exists(file.key)
