"""How a large object is cut into the parts of its copy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import NamedTuple

from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage._s3.responses.lengths import MAX_PARTS
from careflow_storage._transfer.bodies.checksums import is_md5
from careflow_storage._transfer.bodies.parts import MAX_PART_BYTES, PartSizes
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.download.verify import part_ends
from careflow_storage._transfer.upload.marker import UploadMarker

# AWS's minimum for every part but the last, which is above B2's.
_SMALLEST_PART_BYTES = 5 * 1024 * 1024
# Parts are up to this fraction larger, by a number that differs between sources.
_SPREAD = 8


class PartSpan(NamedTuple):
    """The bytes ``[start, end)`` of one part."""

    number: int
    start: int
    end: int


class Plan(NamedTuple):
    """The sizes of the parts, and what proves that the copy has the bytes of its source.

    ``proof`` is ``"parts"`` where the ETag of the source covers these very parts, ``"whole"``
    where it is the MD5 of all bytes, and None where it is neither.
    """

    sizes: PartSizes
    total: int
    proof: str | None

    def spans(self) -> Iterator[PartSpan]:
        """Yield the parts in order."""
        number, start = 1, 0
        while start < self.total and number <= MAX_PARTS:
            end = min(start + self.sizes.size_of(number), self.total)
            yield PartSpan(number, start, end)
            number, start = number + 1, end


def planned(target: TransferContext, head: ObjectHead, identity: str | None) -> Plan:
    """Return the parts of the source where they are known and fit, or else those of the target.

    ``identity`` identifies the source and the headers of the copy. It makes the parts up to an
    eighth larger, by a number that is derived from it: so the parts of an unfinished upload, of
    which nothing but sizes and ETags is listed, show of which source they are.
    """
    settings, total = target.settings, head.file.size
    if (sizes := _sizes_of_source(target, head)) is not None:
        return Plan(sizes, total, "parts")
    own = PartSizes(settings.part_size, total)
    if identity is not None:
        seed = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big")
        base = min(own.base + seed % max(1, own.base // _SPREAD), MAX_PART_BYTES)
        own = PartSizes(base, total)
    return Plan(own, total, "whole" if is_md5(head.file.etag, head.headers) else None)


def identity_of(bucket: str, head: ObjectHead, fingerprint: str) -> str:
    """Return what identifies a source, and the headers of its copy."""
    file = head.file
    return json.dumps([bucket, file.key, file.version_id, file.etag, file.size, fingerprint])


def _sizes_of_source(target: TransferContext, head: ObjectHead) -> PartSizes | None:
    file = head.file
    marker = UploadMarker.parse(head.upload_marker)
    ends = part_ends(file.size, file.etag, head.headers, head.upload_marker)
    if marker is None or len(ends) < 2:
        return None
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    # All of a part is in memory until the target has confirmed it.
    largest = min(MAX_PART_BYTES, target.budget.total)
    smallest = min(_SMALLEST_PART_BYTES, target.settings.part_size)
    fits = min(sizes[:-1]) >= smallest and max(sizes) <= largest
    return marker.sizes if fits else None
