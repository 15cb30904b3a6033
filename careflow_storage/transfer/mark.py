"""The mark that an upload of ours leaves in its object's metadata.

It serves two ends. After a lost answer its nonce proves that the object in the bucket is the
one that this very call sent. And it tells the part size, without which the ETag of a multipart
object (the MD5 of its parts' MD5s) cannot be checked on download.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Self

from careflow_storage.s3.metadata import UPLOAD_MARK
from careflow_storage.transfer.parts import PartSizes

MARK_HEADER = f"x-amz-meta-{UPLOAD_MARK}"
_FORM = re.compile(r"([0-9a-f]{32})-(\d{1,10})(\+?)")


@dataclass(frozen=True, slots=True)
class UploadMark:
    """A nonce and the sizes of the parts; ``str()`` is its form in the metadata."""

    nonce: str
    sizes: PartSizes

    @classmethod
    def new(cls, sizes: PartSizes) -> Self:
        """Make a mark that no other upload has."""
        return cls(secrets.token_hex(16), sizes)

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Read a mark; None for anything else, since others may write metadata too."""
        form = _FORM.fullmatch(text or "")
        if form is None or int(form[2]) == 0:
            return None
        return cls(form[1], PartSizes(int(form[2]), None if form[3] else 0))

    def __str__(self) -> str:
        return f"{self.nonce}-{self.sizes.base}{'+' if self.sizes.growing else ''}"
