"""Copies and moves within the bucket, made by the server."""

from __future__ import annotations

from collections.abc import Mapping

from careflow_storage.models import Model
from careflow_storage.protection import Encryption
from careflow_storage.transfer.engine import Engine


class CopyResult(Model):
    """A copy that the server has confirmed. ``size`` is in bytes."""

    source: str
    source_version_id: str | None
    key: str
    size: int
    etag: str
    version_id: str | None
    parts: int


async def copy_file(
    engine: Engine,
    source: str,
    target: str,
    *,
    version_id: str | None,
    content_type: str | None,
    metadata: Mapping[str, str] | None,
    overwrite: bool,
    source_encryption: Encryption | None,
    encryption: Encryption | None,
) -> CopyResult:
    raise NotImplementedError


async def move_file(engine: Engine, source: str, target: str, *, overwrite: bool) -> CopyResult:
    raise NotImplementedError
