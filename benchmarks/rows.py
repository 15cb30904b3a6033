"""The clients of each workload, and what each of them verifies."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

OURS = "ours"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    ``client`` is a module of ``benchmarks/clients`` (of the import workload: any module).
    ``verifies_tls`` is said in place of ``verifies`` over TLS, where it differs. ``source`` says
    who uploaded the object that a download reads. ``not_on`` names servers that cannot serve the
    row. ``full_only`` rows are left out without ``--full``. ``looped`` is False where the client
    does not run on the event loop, so that another loop changes nothing.
    """

    label: str
    client: str
    verifies: str
    options: dict[str, str] = field(default_factory=dict)
    verifies_tls: str = ""
    source: str = "neutral"
    not_on: tuple[str, ...] = ()
    full_only: bool = False
    looped: bool = True


_MD5 = "Content-MD5, ETag compared"
_SHA256 = "SHA-256"
_LENGTH = "length"
_NOTHING = "nothing"


def _peer(client: str, verifies: str, tls: str = "", *, looped: bool = True) -> Row:
    return Row(client, client, verifies, verifies_tls=tls, full_only=True, looped=looped)


def _b2sdk(verifies: str) -> Row:
    """Return whether the client speaks B2's native API; only the null server has it."""
    return replace(_peer("b2sdk", verifies, looped=False), not_on=("rclone", "seaweed"))


_OURS_UP = (
    Row("ours md5 (default)", OURS, _MD5),
    Row("ours sha256", OURS, _SHA256, {"checksum": "sha256"}),
    Row("ours crc32", OURS, "CRC32", {"checksum": "crc32"}),
)
_OBSTORE_UP = (
    Row("obstore", "obstore", _SHA256),
    Row("obstore unsigned", "obstore", _NOTHING, {"payload": "unsigned"}),
)
_MINIO_UP = _peer("miniopy_async", _SHA256, "Content-MD5")
_BOTO3_UP = _peer("boto3", _SHA256, looped=False)

_UPLOADS = (
    *_OURS_UP,
    Row("aioboto3", "aioboto3", _SHA256),
    *_OBSTORE_UP,
    _MINIO_UP,
    _peer("s3fs", _SHA256),
    _peer("aiohttp_s3_client", _SHA256),
    _peer("capo_s3", _SHA256),
    _BOTO3_UP,
    # It cannot read rclone's response to the beginning of a multipart upload.
    replace(_peer("awscrt", _NOTHING, looped=False), not_on=("rclone",)),
    _peer("s5cmd", "Content-MD5, SHA-256", looped=False),
    _peer("rclone", "Content-MD5, MD5 of the file", looped=False),
    _b2sdk("SHA-1"),
)
_DOWNLOADS = (
    Row("ours, part size unknown", OURS, _LENGTH),
    # The null server keeps no bytes of ours that could be read back.
    Row("ours, own object", OURS, "MD5 of every part", source=OURS, not_on=("null",)),
    Row("aioboto3", "aioboto3", _LENGTH),
    Row("obstore", "obstore", _LENGTH),
    _peer("miniopy_async", _LENGTH),
    _peer("s3fs", _LENGTH),
    _peer("aiohttp_s3_client", _LENGTH),
    _peer("capo_s3", _LENGTH),
    _peer("boto3", _LENGTH, looped=False),
    _peer("awscrt", _LENGTH, looped=False),
    _peer("s5cmd", _LENGTH, looped=False),
    _peer("rclone", "length; MD5 where there is one", looped=False),
    _b2sdk("length"),
)
_STREAMS = (
    *_OURS_UP,
    Row("aioboto3", "aioboto3", _SHA256),
    *_OBSTORE_UP,
    _MINIO_UP,
    _BOTO3_UP,
)
_SMALL = (
    *(replace(row, verifies=f"{row.verifies}; MD5 on get") for row in _OURS_UP),
    Row("aiobotocore", "aiobotocore", _SHA256),
    *_OBSTORE_UP,
    _MINIO_UP,
    _peer("s3fs", _SHA256),
    _peer("aiohttp_s3_client", _NOTHING),
    _peer("capo_s3", _SHA256),
    _peer("boto3", _SHA256, looped=False),
    _b2sdk("SHA-1"),
)
_PLAIN = (
    Row("ours", OURS, "-"),
    Row("aiobotocore", "aiobotocore", "-"),
    Row("obstore", "obstore", "-"),
)
_SIGNERS = (
    *_PLAIN,
    _peer("miniopy_async", "-"),
    _peer("s3fs", "-"),
    _peer("aiohttp_s3_client", "-"),
    _peer("capo_s3", "-"),
    _peer("boto3", "-", looped=False),
)
_LISTERS = (
    *_SIGNERS,
    _peer("s5cmd", "-", looped=False),
    _peer("rclone", "-", looped=False),
    _b2sdk("-"),
)
_APPS = (
    Row("ours", OURS, _MD5),
    Row("aioboto3", "aioboto3", _SHA256),
    Row("obstore", "obstore", _SHA256),
)
_IMPORTS = (
    *("careflow_storage", "aioboto3", "aiobotocore.session", "obstore", "boto3"),
    *("miniopy_async", "s3fs", "aiohttp_s3_client", "capo_s3"),
)

ROWS: dict[str, tuple[Row, ...]] = {
    "upload": _UPLOADS,
    "download": _DOWNLOADS,
    "stream": _STREAMS,
    "small": _SMALL,
    "listing": _LISTERS,
    "presign": _SIGNERS,
    "web": (*_APPS, _MINIO_UP, _peer("s3fs", _SHA256), _BOTO3_UP),
    "serve": (
        Row("ours (file_response)", OURS, _LENGTH),
        Row("from disk (Starlette)", "starlette_file", _NOTHING),
        Row("aioboto3", "aioboto3", _LENGTH),
        Row("obstore", "obstore", _LENGTH),
    ),
    "live": (_APPS[0], _APPS[2]),
    "cold": (
        *(replace(row, verifies="-") for row in _APPS),
        *_SIGNERS[1:2],
        *_SIGNERS[3:],
    ),
    "import": tuple(Row(name, name, "-", looped=False) for name in _IMPORTS),
    "soak": _PLAIN,
}
