"""The two listings that moto does not page, or dates incorrectly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from careflow_storage.testing.b2.xml import document, element

if TYPE_CHECKING:
    # This imports moto, which only a started server needs.
    from careflow_storage.testing.b2.store import Upload

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


def _behind(found: Sequence[Upload], key: str, upload_id: str) -> list[Upload]:
    ids = [(each.key_name, each.id) for each in found]
    if key and (key, upload_id) in ids:
        return list(found[ids.index((key, upload_id)) + 1 :])
    return [each for each in found if each.key_name.encode() > key.encode()] if key else list(found)


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdigit() else default
