"""The results of the broker."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from careflow_storage.models import Model


class BrowserUpload(Model):
    """An upload that one browser may do.

    Attributes:
        key: The key of the file.
        ticket: The browser sends it with each request to your server. It is a permission, so it
            is not in the ``repr``.
        size: The exact size of the file, in bytes.
        content_type: The media type that is stored.
        multipart: Whether the file goes in parts; else it is one PUT.
        part_size: The size of each part but the last, in bytes; the whole size for one PUT.
        part_count: How many parts there are; 1 for one PUT.
        expires_at: When the ticket expires, in UTC.
    """

    key: str
    ticket: str = Field(repr=False)
    size: int
    content_type: str
    multipart: bool
    part_size: int
    part_count: int
    expires_at: AwareDatetime


class UploadedPart(Model):
    """A part of an upload.

    Attributes:
        number: Its number, from 1.
        etag: Its ETag, with or without quotes; without in results.
        size: Its size in bytes. None in a browser's report, which has ETags alone.
    """

    number: int
    etag: str
    size: int | None = None
