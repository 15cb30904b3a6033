"""`ObjectOptions`: what is stored with an object, spelled once for every method that stores one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypedDict

from careflow_storage.models import ChecksumAlgorithm
from careflow_storage.protection import Encryption, Retention

IfExists = Literal["replace", "error", "return"]
"""What a method that stores does about an object that is there: ``replace`` it (the older one
stays as a version), raise an ``error``, or ``return`` the existing object's result."""


class CommonOptions(TypedDict, total=False):
    """`ObjectOptions` without ``content_type``, which ``upload_file`` also takes by position."""

    metadata: dict[str, str] | None
    """Names and values of your own, 1960 bytes together. They are not encrypted: store no
    personal data in them."""

    cache_control: str | None
    """The ``Cache-Control`` header of downloads."""

    content_disposition: str | None
    """The ``Content-Disposition`` header of downloads."""

    checksum: ChecksumAlgorithm | None
    """The checksum that the server verifies: ``md5`` (every S3 server does), ``crc32`` (a fifth
    of the CPU) or ``sha256``. Default: the setting ``checksum``."""

    encryption: Encryption | None
    """How the server encrypts the bytes: ``"SSE-B2"`` with keys of its own (new buckets of B2 do
    so by default), or with your `CustomerKey` (SSE-C), which every later call for this object
    needs. Metadata and the object's key are never encrypted."""

    retention: Retention | None
    """Until when this version cannot be erased. Needs a bucket with object lock and the
    capability writeFileRetentions. Extends the retention of a resumed upload, never shortens
    it."""

    legal_hold: bool
    """Whether this version cannot be erased until ``admin.set_legal_hold`` removes the hold.
    Needs a bucket with object lock and the capability writeFileLegalHolds."""


class ObjectOptions(CommonOptions, total=False):
    """What is stored with an object. Every method that stores one takes these keywords.

    ::

        private: ObjectOptions = {"encryption": "SSE-B2", "cache_control": "no-store"}
        await storage.upload_recording("CA123", body, "recording.webm", **private)

    A type checker reports a keyword or a value that is none of these; at run time an unknown
    keyword raises `TypeError`, and a bad value `InvalidInputError`, before any request.
    """

    content_type: str | None
    """The ``Content-Type``. Default: detected by the first bytes, then by the ending of the
    name."""


_NAMES = ObjectOptions.__optional_keys__


def check_options(method: str, names: Iterable[str]) -> None:
    """Refuse a keyword that is no option, as Python does for a method without ``**options``.

    Raises:
        TypeError: It names ``method`` and the keyword.
    """
    for name in names:
        if name not in _NAMES:
            raise TypeError(f"{method}() got an unexpected keyword argument {name!r}")
