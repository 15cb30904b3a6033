"""CORS rules, and what a browser is told, as models."""

from __future__ import annotations

from typing import Literal

from pydantic import StrictInt

from careflow_storage.models import Model

CorsMethod = Literal["GET", "HEAD", "PUT", "POST", "DELETE"]


class CorsRule(Model):
    """One CORS rule. ``name`` is S3's ID of it, "" where another tool gave it none.

    ``allowed_methods`` are out of `CorsMethod`. Rules that are read may hold anything.
    """

    name: str
    allowed_origins: tuple[str, ...]
    allowed_methods: tuple[str, ...]
    allowed_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age_seconds: StrictInt | None = None


class Preflight(Model):
    """What the server answered to a browser's preflight request.

    ``allowed`` is what a browser makes of it.
    """

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
