"""Uploads from a URL."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.progress import ProgressCallback
from careflow_storage._transfer.remote.checks import check_source
from careflow_storage._transfer.remote.source import RemoteFile
from careflow_storage._transfer.remote.source_request import SourceRequest
from careflow_storage._transfer.upload.existing import (
    find_existing,
    may_be_cut_off,
    result_or_refuse,
)
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage._transfer.upload.upload import upload
from careflow_storage.content_types import DEFAULT_CONTENT_TYPES
from careflow_storage.models import UploadResult
from careflow_storage.recordings import DEFAULT_MAX_SIZE


async def upload_from_url(
    context: TransferContext,
    key: str,
    source_request: SourceRequest,
    options: UploadOptions,
    *,
    name: str,
    max_size: int | None = DEFAULT_MAX_SIZE,
    content_types: Collection[str] | None = DEFAULT_CONTENT_TYPES,
    allow_private_addresses: bool = False,
    max_redirects: int = 5,
    use_proxy: bool = False,
    progress: ProgressCallback | None = None,
) -> UploadResult:
    """Upload the file behind a URL to ``key``; ``name`` helps to detect its content type.

    Reading the source takes no request slot, so a slow source does not delay other transfers.
    """
    headers = options.headers(context.settings.endpoint)  # validates before the source is requested
    checked = check_source(
        source_request,
        max_size=max_size,
        content_types=content_types,
        allow_private_addresses=allow_private_addresses,
        max_redirects=max_redirects,
        use_proxy=use_proxy,
    )
    cut_off = None
    if options.return_existing:
        cut_off = await find_existing(context, key, headers)
        if cut_off is not None and not may_be_cut_off(cut_off):
            return result_or_refuse(context, cut_off)
    async with RemoteFile(context, checked.url, checked.rules) as source:
        content_type = await checked.content_type(source, name)
        options = replace(
            options, size=source.size, content_type=options.content_type or content_type
        )
        # Looked up above.
        is_new = options.return_existing
        return await upload(
            *(context, key, source, options),
            name=name,
            progress=progress,
            is_new=is_new,
            cut_off=cut_off,
        )
