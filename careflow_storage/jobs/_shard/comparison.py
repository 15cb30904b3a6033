"""Compares an object with its copy by what listings and metadata say about them."""

from __future__ import annotations

import re
from enum import Enum

from careflow_storage._s3.headers.metadata import SOURCE_ETAG
from careflow_storage.errors import NoSuchKeyError
from careflow_storage.models import FileInfo
from careflow_storage.storage import BackblazeStorage

_PLAIN_MD5 = re.compile(r"[0-9a-f]{32}")


class Likeness(Enum):
    """What sizes and ETags say about two objects."""

    SAME = "the same size and ETag"
    OTHER_SIZE = "another size"
    OTHER_ETAG = "another ETag, and both are MD5s of the whole object"
    UNKNOWN = "another ETag, which depends on the sizes of the parts"


def compare(source: FileInfo, target: FileInfo) -> Likeness:
    """Compare by listings alone, without a request."""
    if source.size != target.size:
        return Likeness.OTHER_SIZE
    if source.etag == target.etag:
        return Likeness.SAME
    plain = is_plain(source.etag) and is_plain(target.etag)
    return Likeness.OTHER_ETAG if plain else Likeness.UNKNOWN


def is_plain(etag: str) -> bool:
    """Whether an ETag looks like the MD5 of the whole object."""
    return _PLAIN_MD5.fullmatch(etag) is not None


async def is_stamped(target: BackblazeStorage, key: str, source: FileInfo) -> bool:
    """Whether the target's metadata say that it is a copy of this source. 1 request.

    A server that encrypts with keys of a customer or of a key service has other ETags, so this
    decides where ETags differ.
    """
    try:
        metadata = (await target.get_file_metadata(key)).metadata
    except NoSuchKeyError:
        return False
    return metadata.get(SOURCE_ETAG) == source.etag
