"""Uploads straight from browsers to the bucket; your server authorizes each request.

::

    broker = BrowserUploads(storage, secret=os.environ["UPLOAD_SECRET"])

    upload = await broker.create("CA123", "call.webm", content_type="audio/webm", size=48_000_000)
    request = await broker.sign(upload.ticket, part=1)   # the browser sends it to the bucket
    result = await broker.complete(upload.ticket)        # checks what the bucket holds

This package needs no web framework. `careflow_storage.integrations.uppy` has the routes for Uppy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from careflow_storage._lazy import lazy_exports

if TYPE_CHECKING:
    from careflow_storage.browser.broker import BrowserUploads
    from careflow_storage.browser.errors import (
        ExpiredTicketError,
        FileTooLargeError,
        FileTypeError,
        InvalidTicketError,
        UploadIncompleteError,
        UploadMismatchError,
    )
    from careflow_storage.browser.models import BrowserUpload, UploadedPart
    from careflow_storage.browser.policy import UploadPolicy
    from careflow_storage.browser.requests import RequestMethod
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "careflow_storage.browser.broker": ("BrowserUploads",),
            "careflow_storage.browser.errors": (
                *("ExpiredTicketError", "FileTooLargeError", "FileTypeError"),
                *("InvalidTicketError", "UploadIncompleteError", "UploadMismatchError"),
            ),
            "careflow_storage.browser.models": ("BrowserUpload", "UploadedPart"),
            "careflow_storage.browser.policy": ("UploadPolicy",),
            "careflow_storage.browser.requests": ("RequestMethod",),
        },
    )

__all__ = [
    "BrowserUpload",
    "BrowserUploads",
    "ExpiredTicketError",
    "FileTooLargeError",
    "FileTypeError",
    "InvalidTicketError",
    "RequestMethod",
    "UploadIncompleteError",
    "UploadMismatchError",
    "UploadPolicy",
    "UploadedPart",
]
