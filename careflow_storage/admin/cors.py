"""CORS: which web pages may reach the bucket."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

from careflow_storage.models import Model
from careflow_storage.transfer.engine import Engine

CorsMethod = Literal["GET", "HEAD", "PUT", "POST", "DELETE"]


class CorsRule(Model):
    """One CORS rule. ``name`` is S3's ID of it."""

    name: str
    allowed_origins: tuple[str, ...]
    allowed_methods: tuple[CorsMethod, ...]
    allowed_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age_seconds: int | None = None


class Preflight(Model):
    """What the server answered to a browser's preflight request."""

    status: int
    allowed: bool
    allow_origin: str | None
    allow_methods: tuple[str, ...]
    allow_headers: tuple[str, ...]
    expose_headers: tuple[str, ...]
    max_age_seconds: int | None


class CorsCheck(Model):
    """Whether a browser may: by which ``rule``, and what the server says to it.

    ``allowed`` is the server's word. ``problems`` says, in sentences, what stands in the way, or
    what a page will miss (such as an ETag that it cannot read).
    """

    origin: str
    method: CorsMethod
    headers: tuple[str, ...]
    allowed: bool
    rule: CorsRule | None
    preflight: Preflight
    problems: tuple[str, ...] = ()


def browser_upload_rule(
    origins: str | Iterable[str],
    *,
    methods: Collection[CorsMethod],
    name: str,
    max_age_seconds: int,
) -> CorsRule:
    raise NotImplementedError


async def get_rules(engine: Engine) -> list[CorsRule]:
    raise NotImplementedError


async def set_rules(engine: Engine, rules: Iterable[CorsRule]) -> None:
    raise NotImplementedError


async def put_rule(engine: Engine, rule: CorsRule) -> list[CorsRule]:
    raise NotImplementedError


async def remove_rule(engine: Engine, name: str) -> list[CorsRule]:
    raise NotImplementedError


async def check(
    engine: Engine,
    origin: str,
    method: CorsMethod,
    headers: Iterable[str],
    *,
    key: str | None,
) -> CorsCheck:
    raise NotImplementedError
