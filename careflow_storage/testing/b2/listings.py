"""The listings that moto does not page, or dates, orders or encodes incorrectly."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.sax.saxutils import unescape

from careflow_storage.testing.b2.xml import document, element

if TYPE_CHECKING:
    # This imports moto, which only a started server needs.
    from careflow_storage.testing.b2.store import Upload
    from careflow_storage.testing.b2.stored import MotoVersion

_MAX_ENTRIES = 1000


NO_TAGS = document("Tagging", "<TagSet></TagSet>")
"""GetObjectTagging responds with this for every object (stv0g/gose#42)."""


def parts(upload: Upload, bucket: str, query: Mapping[str, str]) -> bytes:
    """Return the body of ListParts."""
    marker = _number(query.get("part-number-marker"), 0)
    limit = min(_number(query.get("max-parts"), _MAX_ENTRIES), _MAX_ENTRIES)
    left = sorted(number for number in upload.parts if number > marker)
    shown, truncated = left[:limit], len(left) > limit
    content = element("Bucket", bucket) + element("Key", upload.key_name)
    content += element("UploadId", upload.id) + element("PartNumberMarker", marker)
    if shown:
        content += element("NextPartNumberMarker", shown[-1])
    content += element("MaxParts", limit) + element("IsTruncated", str(truncated).lower())
    for number in shown:
        part = upload.parts[number]
        content += (
            f"<Part>{element('PartNumber', number)}"
            f"{element('LastModified', part.last_modified_ISO8601)}"
            f"{element('ETag', part.etag)}{element('Size', part.contentsize)}</Part>"
        )
    return document("ListPartsResult", content)


def uploads(found: Sequence[Upload], bucket: str, query: Mapping[str, str]) -> bytes:
    """Return the body of ListMultipartUploads; ``found`` is in the order of a listing."""
    prefix = query.get("prefix", "")
    limit = min(_number(query.get("max-uploads"), _MAX_ENTRIES), _MAX_ENTRIES)
    left = [each for each in found if each.key_name.startswith(prefix)]
    left = _behind(left, query.get("key-marker", ""), query.get("upload-id-marker", ""))
    shown, truncated = left[:limit], len(left) > limit
    content = element("Bucket", bucket) + element("Prefix", prefix)
    content += element("KeyMarker", query.get("key-marker", ""))
    content += element("UploadIdMarker", query.get("upload-id-marker", ""))
    if truncated:
        content += element("NextKeyMarker", shown[-1].key_name)
        content += element("NextUploadIdMarker", shown[-1].id)
    content += element("MaxUploads", limit) + element("IsTruncated", str(truncated).lower())
    for each in shown:
        initiated = f"{each.initiated:%Y-%m-%dT%H:%M:%S}.{each.initiated.microsecond // 1000:03d}Z"
        content += (
            f"<Upload>{element('Key', each.key_name)}{element('UploadId', each.id)}"
            f"{element('Initiated', initiated)}</Upload>"
        )
    return document("ListMultipartUploadsResult", content)


def versions(found: Iterable[MotoVersion], bucket: str, query: Mapping[str, str]) -> bytes:
    """Return the body of ListObjectVersions without a delimiter; ``found`` is in its order."""
    prefix, marker = query.get("prefix", ""), query.get("key-marker", "")
    version_marker = query.get("version-id-marker", "")
    limit = min(_number(query.get("max-keys"), _MAX_ENTRIES), _MAX_ENTRIES)
    encoded = _encoding(query)
    left = [each for each in found if each.version.name.startswith(prefix)]
    left = _behind_version(left, marker, version_marker) if marker else left
    shown, truncated = left[:limit], len(left) > limit
    content = "".join(_version(each, encoded) for each in shown)
    if query.get("encoding-type") == "url":
        content += element("EncodingType", "url")
    content += element("IsTruncated", str(truncated).lower())
    content += element("KeyMarker", encoded(marker)) + element("MaxKeys", limit)
    content += element("Name", bucket)
    if truncated and shown:
        content += element("NextKeyMarker", encoded(shown[-1].version.name))
        content += element("NextVersionIdMarker", shown[-1].version.version_id)
    content += element("Prefix", encoded(prefix))
    content += element("VersionIdMarker", version_marker)
    return document("ListVersionsResult", content)


def _version(found: MotoVersion, encoded: Callable[[str], str]) -> str:
    version, is_latest, is_marker = found
    name = "DeleteMarker" if is_marker else "Version"
    content = "" if is_marker else element("ETag", version.etag)
    content += element("IsLatest", str(is_latest).lower()) + element("Key", encoded(version.name))
    content += element("LastModified", version.last_modified_ISO8601)
    if not is_marker:
        content += element("Size", version.size) + element("StorageClass", "STANDARD")
    return f"<{name}>{content}{element('VersionId', version.version_id)}</{name}>"


def _behind_version(found: list[MotoVersion], key: str, version_id: str) -> list[MotoVersion]:
    """Leave out what comes before a version, or before and with all versions of a key."""
    ids = [(version.name, version.version_id) for version, _, _ in found]
    if version_id and (key, version_id) in ids:
        return found[ids.index((key, version_id)) + 1 :]
    return [each for each in found if each.version.name.encode() > key.encode()]


def encode_start(body: bytes, query: Mapping[str, str]) -> bytes:
    """Percent-encode the key that ListObjectsV2 repeats, which XML may not be able to carry."""
    if not query.get("start-after") or query.get("encoding-type") != "url":
        return body
    return re.sub(
        "(?s)(?<=<StartAfter>).*?(?=</StartAfter>)",
        lambda found: quote(unescape(found[0])),
        body.decode(),
    ).encode()


def _encoding(query: Mapping[str, str]) -> Callable[[str], str]:
    return quote if query.get("encoding-type") == "url" else str


def _behind(found: Sequence[Upload], key: str, upload_id: str) -> list[Upload]:
    ids = [(each.key_name, each.id) for each in found]
    if key and (key, upload_id) in ids:
        return list(found[ids.index((key, upload_id)) + 1 :])
    return [each for each in found if each.key_name.encode() > key.encode()] if key else list(found)


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdigit() else default
