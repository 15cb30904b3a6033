"""One version of an object of another storage, which is to be copied."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.download.stream import FileStream
from careflow_storage._transfer.download.verify import EtagHasher, part_ends, verify_digests
from careflow_storage.protection import CustomerKey

METHOD = "copy_from"


class CopyStream:
    """The first response of the source, which pins the version; its bytes, if they are few."""

    def __init__(
        self,
        context: TransferContext,
        key: str,
        end: int,
        *,
        version_id: str | None,
        encryption: CustomerKey | None,
    ) -> None:
        self._context = context
        self._stream = FileStream(
            *(context, key),
            start=0,
            end=end,
            version_id=version_id,
            verify=False,
            encryption=encryption,
            method=METHOD,
        )

    async def __aenter__(self) -> ObjectHead:
        await self._stream.__aenter__()
        return self._stream._pinned_head

    async def __aexit__(self, *_: object) -> None:
        await self._stream.aclose()

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the bytes of a whole object, and verify them by its ETag at the end.

        Raises:
            ChecksumMismatchError: They do not match.
        """
        head = self._stream._pinned_head
        ends = part_ends(head.file.size, head.file.etag, head.headers, head.upload_marker)
        hasher = EtagHasher(ends, self._context.threads)
        try:
            async with aclosing(aiter(self._stream)) as chunks:
                async for chunk in chunks:
                    await hasher.update(chunk)
                    yield chunk
            await verify_digests(self._context.requests, head, await hasher.digests())
        finally:
            await hasher.aclose()


async def read_range(
    context: TransferContext,
    head: ObjectHead,
    view: memoryview,
    start: int,
    *,
    encryption: CustomerKey | None,
) -> None:
    """Fill ``view`` with the bytes from ``start`` on of exactly this version. 1 request.

    Raises:
        NoSuchKeyError: The version was erased.
        PreconditionFailedError: The object was replaced, in a bucket without versions.
    """
    position = 0

    async def free() -> memoryview:
        return view[position:]

    stream = FileStream(
        *(context, head.file.key),
        start=start,
        end=start + view.nbytes,
        head=head,
        verify=False,
        encryption=encryption,
        method=METHOD,
    )
    try:
        async with aclosing(stream._into(free)) as pieces:
            async for piece in pieces:
                if isinstance(piece, bytes):
                    view[position : position + len(piece)] = piece
                position += len(piece)
    finally:
        await stream.aclose()
