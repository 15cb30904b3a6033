"""The XML that S3 servers send, for the tests that read it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from unittest import mock

from careflow_storage._s3.xml import documents
from careflow_storage._s3.xml.documents import (
    ListPage,
    parse_listing,
)
from careflow_storage.errors import (
    StorageError,
)
from careflow_storage.models import FileInfo

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
MD5 = "d41d8cd98f00b204e9800998ecf8427e"
MOMENT = datetime(2026, 11, 23, 6, 36, 9, tzinfo=UTC)

AWS_ENTRY = (
    "<Contents><Key>{key}</Key><LastModified>2026-11-23T06:36:09.000Z</LastModified>"
    "<ETag>&quot;{etag}&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm>"
    "<ChecksumType>FULL_OBJECT</ChecksumType><Size>{size}</Size>"
    "<StorageClass>STANDARD</StorageClass></Contents>"
)
SEAWEEDFS_ENTRY = (
    "<Contents><Key>{key}</Key><ETag>&#34;{etag}&#34;</ETag><Size>{size}</Size>"
    "<StorageClass>STANDARD</StorageClass><LastModified>2026-11-23T06:36:09Z</LastModified>"
    "</Contents>"
)
MOTO_ENTRY = (
    "<Contents><Key>{key}</Key><LastModified>2026-11-23T06:36:09.000Z</LastModified>"
    '<ETag>"{etag}"</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>'
)
INDENTED_ENTRY = """
    <Contents>
        <Key>{key}</Key>
        <LastModified>2026-11-23T06:36:09.000Z</LastModified>
        <ETag>"{etag}"</ETag>
        <Size>{size}</Size>
    </Contents>"""
RCLONE_ENTRY = """
  <Contents>
    <Key>{key}</Key>
    <LastModified>2026-11-23T06:36:09.000Z</LastModified>
    <ETag>{etag}</ETag>
    <Size>{size}</Size>
    <StorageClass>STANDARD</StorageClass>
  </Contents>"""
ENTRIES = {
    "AWS": AWS_ENTRY,
    "SeaweedFS": SEAWEEDFS_ENTRY,
    "moto": MOTO_ENTRY,
    "indented": INDENTED_ENTRY,
    "rclone": RCLONE_ENTRY,
}


def listing(inner: str, *, truncated: str = "false", more: str = "") -> bytes:
    return (
        f'{HEAD}<ListBucketResult xmlns="{NAMESPACE}"><Name>b</Name><Prefix></Prefix>'
        f"<MaxKeys>1000</MaxKeys><IsTruncated>{truncated}</IsTruncated>{inner}{more}"
        "</ListBucketResult>"
    ).encode()


def entry(key: str = "k", *, size: str = "1", etag: str = MD5, form: str = AWS_ENTRY) -> str:
    return form.format(key=key, etag=etag, size=size)


def info(key: str, size: int = 1, etag: str = MD5) -> FileInfo:
    return FileInfo(key=key, size=size, last_modified=MOMENT, etag=etag)


def only_by_parser() -> Any:
    return mock.patch.object(documents, "split_entries", return_value=None)


def outcome(data: bytes) -> ListPage | None:
    """The page, or None for a refusal; anything but these is a crash and comes out."""
    try:
        return parse_listing(data)
    except StorageError:
        return None


def parser_outcome(data: bytes) -> ListPage | None:
    with only_by_parser():
        return outcome(data)


URL = "<EncodingType>url</EncodingType>"

# B2 indents its error documents.
ERROR = b"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<Error>
    <Code>SlowDown</Code>
    <Message>no tomes available &amp; busy</Message>
    <RequestId>8a1f</RequestId>
    <Resource><Code>not this</Code></Resource>
</Error>
"""

DELETED = (
    f'{HEAD}<DeleteResult xmlns="{NAMESPACE}">'
    "<Deleted><Key>hidden</Key><DeleteMarker>true</DeleteMarker>"
    "<DeleteMarkerVersionId>m1</DeleteMarkerVersionId></Deleted>"
    "<Error><Key>locked &amp; kept</Key><VersionId>v9</VersionId><Code>AccessDenied</Code>"
    "<Message>no</Message></Error>"
    "<Deleted><Key>erased</Key><VersionId>v2</VersionId></Deleted>"
    "<Deleted><Key>plain</Key></Deleted>"
    "</DeleteResult>"
).encode()
