"""The results of the storage's methods: frozen pydantic models."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from careflow_storage.protection import Retention

ChecksumAlgorithm = Literal["md5", "crc32", "sha256"]
"""An algorithm by which the server checks what it receives."""


class Model(BaseModel):
    """The base class of all results: frozen, without extra fields."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class Checksum(Model):
    """A checksum of an object, on which the client and the server agree.

    ``value`` is lower-case hex. If ``parts`` is set, the checksum is composite: the hash of the
    parts' hashes, as in a multipart ETag. Otherwise it is the hash of the whole object.
    """

    algorithm: ChecksumAlgorithm
    value: str
    parts: int | None = None


class UploadResult(Model):
    """An object that the server has confirmed.

    ``url`` is the address without a signature: in a private bucket, use a presigned URL.
    ``size`` is in bytes. ``parts`` is 1 for a single PUT. ``version_id`` is None if the bucket
    keeps no versions (on B2 every bucket does). ``reused`` is the number of bytes that an
    interrupted upload had stored already. ``partial`` is True for a recording that was cut off:
    it holds the bytes that had arrived.
    """

    key: str
    url: str
    bucket: str
    size: int
    etag: str
    version_id: str | None
    content_type: str
    parts: int
    checksum: Checksum
    reused: int = 0
    partial: bool = False


class SignedRequest(Model):
    """A signed request. Any client can send it, any number of times, until it expires.

    Send all ``headers``, with exactly these values, in addition to those that every HTTP
    client sets itself (``Host`` and ``Content-Length``). ``expires_at`` is in UTC. ``url``
    contains the signature and grants access, so it is not in the ``repr``.
    """

    method: Literal["PUT", "POST", "GET", "DELETE"]
    url: str = Field(repr=False)
    headers: dict[str, str]
    expires_at: AwareDatetime


class DownloadResult(Model):
    """A file that was written completely.

    ``verified`` names the check of the bytes: ``md5`` of the whole object, ``composite-md5`` (the
    MD5 of each part), or only ``length`` if the object's ETag cannot be computed from MD5s.
    ``reused`` is the number of bytes that an interrupted download had written already.
    """

    key: str
    path: Path
    size: int
    etag: str
    version_id: str | None
    content_type: str
    verified: Literal["md5", "composite-md5", "length"]
    reused: int = 0


class DeleteResult(Model):
    """The result of deleting one key.

    B2 keeps every version: deleting by key *hides* the object behind a delete marker
    (``delete_marker=True``, ``version_id`` is the marker's) and its bytes stay stored and
    billed. Deleting a ``version_id`` erases that version. ``error_code`` and
    ``error_message`` are set by ``delete_files`` for a key that could not be deleted.
    """

    key: str
    deleted: bool
    version_id: str | None = None
    delete_marker: bool = False
    error_code: str | None = None
    error_message: str | None = None


class PurgeResult(Model):
    """The number of versions, delete markers and unfinished uploads that were erased.

    ``key`` is the key or the prefix that was purged. ``bytes`` is the size of the versions; the
    parts of unfinished uploads are not counted.
    """

    key: str
    versions: int
    delete_markers: int
    uploads: int
    bytes: int = 0


class FileInfo(Model):
    """One line of a listing. ``size`` is in bytes, ``last_modified`` in UTC."""

    key: str
    size: int
    last_modified: AwareDatetime
    etag: str


class FolderContents(Model):
    """The direct content of a folder. Each list is in UTF-8 byte order.

    ``common_prefixes`` are the full prefixes of the folders below: ``["recordings/CA123/", ...]``.
    ``files`` are the files in the folder itself, including a file whose key is the folder's
    prefix, which some tools create for an empty folder.
    """

    common_prefixes: list[str]
    files: list[FileInfo]


class FileVersion(Model):
    """One version of a file, or a delete marker (of ``size`` 0 and without an ETag).

    ``is_latest`` is True for the newest version of the key: the current file, or the delete
    marker that hides it. ``version_id`` is None for a file that was stored while the bucket kept
    no versions (S3's version "null"; B2 always keeps them).
    """

    key: str
    version_id: str | None
    is_latest: bool
    delete_marker: bool
    size: int
    last_modified: AwareDatetime
    etag: str


class FileMetadata(Model):
    """The server's information about one object.

    ``metadata`` is the uploader's own. ``partial`` is True for a recording that was cut off.
    ``cache_control``, ``content_disposition``, ``content_encoding`` and ``content_language`` are
    the headers of downloads, None where the object has none; `BackblazeStorage` never decodes a
    ``content_encoding``.
    ``encryption`` is None if the server reports none, or one that B2 does not have. The server
    returns ``retention`` and ``legal_hold`` only to application keys with readFileRetentions and
    readFileLegalHolds: to other keys every file looks unlocked. A ``retention`` may have ended.
    """

    key: str
    size: int
    content_type: str
    last_modified: AwareDatetime
    etag: str
    version_id: str | None
    metadata: dict[str, str]
    cache_control: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    partial: bool = False
    encryption: Literal["SSE-B2", "SSE-C"] | None = None
    retention: Retention | None = None
    legal_hold: bool = False


class IncompleteUpload(Model):
    """A multipart upload that is neither completed nor aborted yet.

    Its parts are stored and billed. ``initiated`` is in UTC.
    """

    key: str
    upload_id: str
    initiated: AwareDatetime


class Progress(Model):
    """The bytes that a transfer has moved so far, never decreasing, and the total if known."""

    transferred: int
    total: int | None
