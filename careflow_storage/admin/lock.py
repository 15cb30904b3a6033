"""Object lock: retention and legal hold, of files that are there already."""

from __future__ import annotations

from careflow_storage.models import Model
from careflow_storage.protection import Retention, RetentionMode
from careflow_storage.transfer.engine import Engine


class DefaultRetention(Model):
    """How long new files of a bucket are kept, unless they say otherwise. 1 to 3000 days."""

    mode: RetentionMode
    days: int


class ObjectLock(Model):
    """Whether files of the bucket can be locked, and what new ones get."""

    enabled: bool
    default: DefaultRetention | None = None


async def get_object_lock(engine: Engine) -> ObjectLock:
    raise NotImplementedError


async def set_object_lock(engine: Engine, default: DefaultRetention | None) -> None:
    raise NotImplementedError


async def get_retention(engine: Engine, key: str, version_id: str | None) -> Retention | None:
    raise NotImplementedError


async def set_retention(
    engine: Engine,
    key: str,
    retention: Retention | None,
    version_id: str | None,
    *,
    bypass_governance: bool,
) -> None:
    raise NotImplementedError


async def get_legal_hold(engine: Engine, key: str, version_id: str | None) -> bool:
    raise NotImplementedError


async def set_legal_hold(engine: Engine, key: str, on: bool, version_id: str | None) -> None:
    raise NotImplementedError
