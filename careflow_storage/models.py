"""What the methods of the storage return: frozen, typed, ready for JSON."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from careflow_storage.protection import Retention

ChecksumAlgorithm = Literal["md5", "crc32", "sha256"]


class Model(BaseModel):
    """The root of all results: frozen, and nothing but its fields."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class Checksum(Model):
    """A checksum of an object's bytes that both sides agreed on.

    ``value`` is lower-case hex. With ``parts`` set it is composite, the hash of the parts'
    hashes, as in a multipart ETag; else it is the hash of the whole object.
    """

    algorithm: ChecksumAlgorithm
    value: str
    parts: int | None = None


class UploadResult(Model):
    """An object that the server has confirmed.

    ``url`` is its address without a signature: in a private bucket it needs a presigned URL.
    ``size`` is in bytes. ``parts`` is 1 for a single PUT. ``version_id`` is None where the
    bucket keeps no versions (B2's always do). ``reused`` are the bytes of it that an interrupted
    upload had stored already, so that they were not sent again. ``partial`` says that the
    recording was cut off: it holds what had arrived until then.
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
    """A signed request. Anyone who has it can send it, any number of times, until it expires.

    Send all ``headers``, with exactly these values, in addition to those that every HTTP
    client sets itself (``Host`` and ``Content-Length``). ``expires_at`` is in UTC. The
    signature is in ``url``, which is a permission: it is not in the ``repr``.
    """

    method: Literal["PUT", "POST", "GET", "DELETE"]
    url: str = Field(repr=False)
    headers: dict[str, str]
    expires_at: AwareDatetime


class DownloadResult(Model):
    """A file that was written completely.

    ``verified`` names what the bytes were checked against: ``md5`` of the whole object, the
    ``md5`` of each part (``composite-md5``), or only their ``length``, where the object's
    ETag is not made of MD5s that can be recomputed. ``reused`` are the bytes that an interrupted
    download had written already.
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
    """What a deletion did.

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
    """How many versions, delete markers and unfinished uploads were erased.

    ``key`` is the key, or the prefix of all that were meant. ``bytes`` are those of the
    versions; what the parts of unfinished uploads held is not counted.
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
    """What is directly in a folder, each list in UTF-8 byte order.

    ``common_prefixes`` are the folders below it, whole: ``["recordings/CA123/", ...]``. ``files``
    are those that are in none of them. A file whose key is the folder's own prefix, as some
    tools make for an empty folder, is one of them.
    """

    common_prefixes: list[str]
    files: list[FileInfo]


class FileVersion(Model):
    """One version of a file, or a delete marker (of ``size`` 0 and without an ETag).

    ``is_latest`` says that it is what the key shows: the file, or as a delete marker that it is
    hidden. ``version_id`` is None for what was stored while the bucket kept no versions (S3's
    version "null"; B2 always keeps them).
    """

    key: str
    version_id: str | None
    is_latest: bool
    delete_marker: bool
    size: int
    last_modified: AwareDatetime
    etag: str


class FileMetadata(Model):
    """What the server knows about one object.

    ``metadata`` is the uploader's own. ``partial`` says that it is a recording that was cut off.
    ``encryption`` is None if the server reports none that B2 has. The server returns
    ``retention`` and ``legal_hold`` only to application keys with readFileRetentions and
    readFileLegalHolds: for others every file looks unlocked. A ``retention`` may have ended.
    """

    key: str
    size: int
    content_type: str
    last_modified: AwareDatetime
    etag: str
    version_id: str | None
    metadata: dict[str, str]
    partial: bool = False
    encryption: Literal["SSE-B2", "SSE-C"] | None = None
    retention: Retention | None = None
    legal_hold: bool = False


class IncompleteUpload(Model):
    """A multipart upload that was begun, and neither completed nor aborted (yet).

    Its parts are stored and billed. ``initiated`` is in UTC.
    """

    key: str
    upload_id: str
    initiated: AwareDatetime


class Progress(Model):
    """How far a transfer is: bytes moved so far, never falling, and the total if known."""

    transferred: int
    total: int | None
