"""The policy: what browsers may upload."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from careflow_storage.browser.errors import FileTooLargeError, FileTypeError
from careflow_storage.errors import InvalidInputError
from careflow_storage.models import Model

_MIB = 1024 * 1024
_GIB = 1024 * _MIB
_TYPE = r"[!#$&^_.+0-9A-Za-z-]+"
_MEDIA_TYPE = re.compile(rf"({_TYPE})/({_TYPE})(?: *;.*)?")
# Bounds of S3's multipart uploads (AWS "Amazon S3 multipart upload limits").
MIN_PART_BYTES = 5 * _MIB
MAX_PUT_BYTES = 5 * _GIB
MAX_PARTS = 10_000

Pattern = Annotated[str, StringConstraints(pattern=rf"^(?:\*/\*|{_TYPE}/\*|{_TYPE}/{_TYPE})$")]


class UploadPolicy(Model):
    """What browsers may upload, checked before a ticket is issued.

    An empty file is allowed, as in `BackblazeStorage.upload_file`; it is one PUT.

    Attributes:
        max_size: The largest file, in bytes.
        content_types: Media types, of which the subtype may be ``*``: ``audio/*``. Types that
            browsers run as part of a page (``text/html``, ``image/svg+xml``, ...) are matched
            only by their full name.
        expires_in: Seconds for which a ticket is valid: the longest that one upload may take.
            Servers accept it 60 s longer, since their clocks may differ.
        url_expires_in: Seconds for which the signature of one request is valid; never longer
            than the ticket.
        multipart_threshold: Files above it are uploaded in parts, in bytes.
        part_size: The size of the parts in bytes, 5 MiB at least. It doubles for files that
            would have more than 10,000 parts.
    """

    max_size: int = Field(default=5 * _GIB, gt=0)
    content_types: tuple[Pattern, ...] = Field(default=("audio/*", "video/webm"), min_length=1)
    expires_in: int = Field(default=3600, gt=0, le=7 * 24 * 3600)
    url_expires_in: int = Field(default=600, gt=0, le=7 * 24 * 3600)
    multipart_threshold: int = Field(default=32 * _MIB, ge=0, le=MAX_PUT_BYTES)
    part_size: int = Field(default=16 * _MIB, ge=MIN_PART_BYTES, le=MAX_PUT_BYTES)

    @model_validator(mode="after")
    def _parts_hold_the_largest_file(self) -> Self:
        if self.max_size > MAX_PARTS * MAX_PUT_BYTES:
            raise ValueError("max_size is more than 10,000 parts of 5 GiB can hold.")
        return self

    def check(self, *, size: int, content_type: str) -> None:
        """Refuse a file that the policy does not allow.

        Raises:
            InvalidInputError: The size is not a whole number from 0.
            FileTooLargeError: The file is larger than ``max_size``.
            FileTypeError: The type matches none of ``content_types``.
        """
        if type(size) is not int or size < 0:
            raise InvalidInputError(f"size must be a whole number of bytes, not {size!r}.")
        if size > self.max_size:
            raise FileTooLargeError(
                f"The file has {size} bytes, and {self.max_size} are allowed.",
                hint="Raise max_size of the UploadPolicy if files of this size are expected.",
            )
        if not self.allows(content_type):
            raise FileTypeError(
                f"Files of the type {content_type!r} are not allowed.",
                hint=f"Allowed are {', '.join(self.content_types)}.",
            )

    def allows(self, content_type: str) -> bool:
        """Return whether files of this media type may be uploaded. Its parameters do not count."""
        found = _MEDIA_TYPE.fullmatch(content_type) if _is_text(content_type) else None
        if found is None:
            return False
        main, sub = found[1].lower(), found[2].lower()
        for pattern in self.content_types:
            wanted = pattern.lower()
            if wanted == f"{main}/{sub}":
                return True
            if wanted in ("*/*", f"{main}/*") and not _runs_in_a_page(main, sub):
                return True
        return False

    def part_size_of(self, size: int) -> int:
        """Return the size of the parts, in bytes, of a file of this size."""
        part_size = self.part_size
        while part_size * MAX_PARTS < size:
            part_size = min(part_size * 2, MAX_PUT_BYTES)
        return part_size


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _runs_in_a_page(main: str, sub: str) -> bool:
    # Served from the bucket's address, such a file could run scripts.
    return main in ("text", "application", "multipart") or sub.endswith(("xml", "html"))
