"""The settings of a bucket, and the results of calls, as models."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import AwareDatetime, StrictInt

from careflow_storage.models import Model
from careflow_storage.protection import RetentionMode

CorsMethod: TypeAlias = Literal["GET", "HEAD", "PUT", "POST", "DELETE"]
"""A method that a CORS rule can allow."""
CorsPreset: TypeAlias = Literal["put", "multipart"]
"""What browsers may do: one PUT for each file, or multipart uploads, too."""


class BucketInfo(Model):
    """A bucket. Only listings set ``created``; ``region`` is None if the server hides it."""

    name: str
    created: AwareDatetime | None = None
    region: str | None = None


class CorsRule(Model):
    """One CORS rule.

    ``name`` is its ID in S3, or "" for a rule that another tool made without an ID.
    ``allowed_methods`` are those of `CorsMethod`. Rules read from the server may hold any text.
    """

    name: str
    allowed_origins: tuple[str, ...]
    allowed_methods: tuple[str, ...]
    allowed_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age_seconds: StrictInt | None = None


class Preflight(Model):
    """The server's response to a browser's preflight request.

    ``allowed`` is what a browser concludes from it.
    """

    status: int
    allowed: bool
    allow_origin: str | None
    allow_methods: tuple[str, ...]
    allow_headers: tuple[str, ...]
    expose_headers: tuple[str, ...]
    max_age_seconds: int | None


class CorsCheck(Model):
    """Whether a browser may send a request, and which ``rule`` allows it.

    ``allowed`` is the server's decision. Each of ``problems`` is a sentence: what blocks the
    request, or what the page cannot read, such as the ETag.
    """

    origin: str
    method: CorsMethod
    headers: tuple[str, ...]
    allowed: bool
    rule: CorsRule | None
    preflight: Preflight
    problems: tuple[str, ...] = ()


class LifecycleRule(Model):
    """What B2 does by itself with the files below ``prefix``. Days are positive; None is never.

    ``unsupported`` describes rules for the same prefix that these fields cannot express, such as
    transitions to another storage class. B2 has none; other servers do. A rule with such parts
    can be read but not written.
    """

    prefix: str
    hide_after_days: StrictInt | None = None
    erase_after_days: StrictInt | None = None
    cancel_unfinished_after_days: StrictInt | None = None
    unsupported: tuple[str, ...] = ()


class RestoreResult(Model):
    """How a file was restored: ``unhidden``, ``copied`` to the top, or it ``was_there`` already.

    ``version_id`` is the version that is visible now.
    """

    key: str
    how: Literal["unhidden", "copied", "was_there"]
    version_id: str | None


class CopyResult(Model):
    """A copy that the server has confirmed. ``size`` is in bytes; ``parts`` is 1 up to 5 GB."""

    source: str
    source_version_id: str | None
    key: str
    size: int
    etag: str
    version_id: str | None
    parts: int


class DefaultRetention(Model):
    """How long new files of a bucket are kept unless the upload says otherwise. 1 to 3000 days."""

    mode: RetentionMode
    days: int


class ObjectLock(Model):
    """Whether files of the bucket can be locked, and the default retention of new files."""

    enabled: bool
    default: DefaultRetention | None = None
