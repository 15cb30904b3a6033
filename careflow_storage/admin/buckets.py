"""Buckets: create, list, look at, delete; their default encryption."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime

from careflow_storage.models import Model
from careflow_storage.transfer.engine import Engine


class BucketInfo(Model):
    """A bucket. ``created`` is told by listings only, ``region`` by ``head_bucket`` only."""

    name: str
    created: AwareDatetime | None = None
    region: str | None = None


async def create_bucket(
    engine: Engine,
    name: str | None,
    *,
    env: str | None,
    object_lock: bool,
    encryption: Literal["SSE-B2"] | None,
) -> BucketInfo:
    raise NotImplementedError


async def list_buckets(engine: Engine) -> list[BucketInfo]:
    raise NotImplementedError


async def head_bucket(engine: Engine, name: str | None) -> BucketInfo:
    raise NotImplementedError


async def delete_bucket(engine: Engine, name: str | None, *, confirm: str) -> None:
    raise NotImplementedError


async def get_encryption(engine: Engine) -> Literal["SSE-B2"] | None:
    raise NotImplementedError


async def set_encryption(engine: Engine, encryption: Literal["SSE-B2"] | None) -> None:
    raise NotImplementedError
