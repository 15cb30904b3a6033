"""The headers of an object that its copy, or its next version, keeps."""

from __future__ import annotations

from careflow_storage._s3.headers.metadata import (
    META_PREFIX,
    PARTIAL_MARKER,
    decode_metadata,
    encode_metadata,
    is_header_value,
)
from careflow_storage._s3.headers.objects import ObjectHead

_KEPT = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)
_PARTIAL_HEADER = f"{META_PREFIX}{PARTIAL_MARKER}"


def kept_headers(head: ObjectHead, *, with_metadata: bool = True) -> dict[str, str]:
    """Return the headers that say what the object is: its type, how it is served, its metadata.

    The note that a recording was cut off is kept without the metadata, too.
    """
    headers: dict[str, str] = {}
    for raw_name, value in head.headers.items():
        name = raw_name.lower()
        if name == _PARTIAL_HEADER or (with_metadata and name.startswith(META_PREFIX)):
            headers |= _metadata_header(name, value)
        elif name in _KEPT and is_header_value(value):
            headers[name] = value
    return headers


def _metadata_header(name: str, value: str) -> dict[str, str]:
    # Unchanged where possible: other writers may use names and encodings of their own.
    if is_header_value(value):
        return {name: value}
    return encode_metadata(decode_metadata({name: value}))
