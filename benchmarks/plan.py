"""What is measured: the workloads, their rows, their sizes."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.model import MIB

BASELINE = "obstore"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table. ``source`` says who uploaded the object that a download reads."""

    label: str
    client: str
    verifies: str
    options: dict[str, str] = field(default_factory=dict)
    source: str = "neutral"


@dataclass(frozen=True, slots=True)
class Group:
    """One workload: the server it needs and the clients that take part."""

    name: str
    title: str
    server: str | None
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of it: ``transfer`` bytes, operations, listings, milliseconds of presigning."""

    transfer: int = 1024 * MIB
    warm: int = 24 * MIB
    small: int = 64 * 1024
    operations: int = 3000
    workers: int = 64
    keys: int = 1000
    listings: int = 40
    presign_ms: int = 1000
    rounds: int = 3


FULL = Scale()
QUICK = Scale(transfer=192 * MIB, operations=600, listings=10, presign_ms=300, rounds=1)

UPLOAD = Group(
    "upload",
    "Upload of one file, multipart, to rclone serve s3",
    "rclone",
    (
        Row("ours md5 (default)", "ours", "Content-MD5 per part, ETag compared"),
        Row("ours crc32", "ours", "CRC32 per part", {"checksum": "crc32"}),
        Row("aioboto3 upload_file", "aioboto3", "SHA-256 in the signature"),
        Row(BASELINE, "obstore", "SHA-256 in the signature"),
        Row("obstore unsigned", "obstore", "nothing", {"payload": "unsigned"}),
    ),
)
DOWNLOAD = Group(
    "download",
    "Download of one object to a file, from SeaweedFS",
    "seaweed",
    (
        Row("ours, part size unknown", "ours", "length"),
        Row("ours, own object", "ours", "MD5 of every part", source="ours"),
        Row("aioboto3 download_file", "aioboto3", "nothing"),
        Row(BASELINE, "obstore", "length"),
    ),
)
SMALL = Group(
    "small",
    "Objects of 64 KiB, 64 at once, on SeaweedFS",
    "seaweed",
    (
        Row("ours md5 (default)", "ours", "Content-MD5, ETag compared; MD5 on get"),
        Row("ours crc32", "ours", "CRC32 up; MD5 on get", {"checksum": "crc32"}),
        Row("aiobotocore", "aiobotocore", "SHA-256 in the signature"),
        Row(BASELINE, "obstore", "SHA-256 in the signature; length on get"),
        Row("obstore unsigned", "obstore", "length on get", {"payload": "unsigned"}),
    ),
)
LISTING = Group(
    "listing",
    "Listing of 1000 keys, one after another, on SeaweedFS",
    "seaweed",
    (
        Row("ours", "ours", "the document"),
        Row("aiobotocore", "aiobotocore", "the document"),
        Row(BASELINE, "obstore", "the document"),
    ),
)
PRESIGN = Group(
    "presign",
    "Presigned GET URLs",
    "seaweed",
    (
        Row("ours", "ours", "-"),
        Row("aiobotocore", "aiobotocore", "-"),
        Row(BASELINE, "obstore", "-"),
    ),
)
IMPORT = Group(
    "import",
    "Cost of an import in a fresh interpreter",
    None,
    (
        Row("careflow_storage", "careflow_storage", "-"),
        Row("aioboto3", "aioboto3", "-"),
        Row("aiobotocore.session", "aiobotocore.session", "-"),
        Row(BASELINE, "obstore", "-"),
    ),
)

GROUPS = {group.name: group for group in (UPLOAD, DOWNLOAD, SMALL, LISTING, PRESIGN, IMPORT)}
