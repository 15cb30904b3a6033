"""The upload marker, which uploads of this package leave in the metadata of their object.

It has three uses. After a lost response its nonce proves that the stored object is the one that
this call sent. The first half of the nonce is a fingerprint of the object's headers: a resumed
upload compares it, since no request lists the headers of an unfinished upload. And the marker
holds the part size, without which a download cannot verify the ETag of a multipart object (the
MD5 of its parts' MD5s).
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from careflow_storage._s3.headers.encryption import lasting
from careflow_storage._s3.headers.metadata import UPLOAD_MARKER
from careflow_storage._transfer.bodies.parts import PartSizes
from careflow_storage.models import ChecksumAlgorithm

MARKER_HEADER = f"x-amz-meta-{UPLOAD_MARKER}"
_NONCE_DIGITS = 32
_FINGERPRINT_DIGITS = 16
_FORM = re.compile(r"([0-9a-f]{32})-(\d{1,10})(\+?)")


@dataclass(frozen=True, slots=True)
class UploadMarker:
    """A nonce and the sizes of the parts; ``str()`` is its form in the metadata."""

    nonce: str
    sizes: PartSizes

    @classmethod
    def new(cls, sizes: PartSizes, fingerprint: str = "") -> Self:
        """Make a unique marker, whose nonce begins with ``fingerprint``."""
        random = secrets.token_hex(_NONCE_DIGITS // 2)
        return cls((fingerprint + random)[:_NONCE_DIGITS], sizes)

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Parse a marker. None for any other text, since other programs write metadata too."""
        form = _FORM.fullmatch(text or "")
        if form is None or int(form[2]) == 0:
            return None
        return cls(form[1], PartSizes(int(form[2]), None if form[3] else 0))

    def has(self, fingerprint: str) -> bool:
        """Whether the upload was begun with the headers of this fingerprint."""
        return self.nonce.startswith(fingerprint)

    def __str__(self) -> str:
        return f"{self.nonce}-{self.sizes.base}{'+' if self.sizes.growing else ''}"


def fingerprint_of(headers: Mapping[str, str], algorithm: ChecksumAlgorithm) -> str:
    """Return a fingerprint of an object's headers, in 16 hex digits.

    It leaves out the marker, the lock (which may change) and a customer's key (whose hash must
    not be stored in the clear).
    """
    compared = sorted(
        (name, value) for name, value in lasting(headers).items() if name != MARKER_HEADER
    )
    text = json.dumps([compared, algorithm])
    return hashlib.sha256(text.encode()).hexdigest()[:_FINGERPRINT_DIGITS]
