"""How B2 handles multipart uploads: ETags, checksums and errors."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import zlib
from collections.abc import Mapping

from careflow_storage._s3.signing.signer import canonical_query
from careflow_storage._s3.xml.documents import unquote_etag
from careflow_storage.doctor.b2_probes.expectation import as_expected, refused_as
from careflow_storage.doctor.context import PROBE, PROBE_MD5, DoctorContext
from careflow_storage.doctor.models import Outcome, passed
from careflow_storage.doctor.raw_client import Reply

_UPLOAD_ID = re.compile(rb"<UploadId>([^<]{1,1024})</UploadId>")
_ETAG = re.compile(rb"<ETag>([^<]{1,200})</ETag>")
_CRC32 = base64.b64encode(zlib.crc32(PROBE).to_bytes(4, "big")).decode()
# One part: the last part has no minimum size.
_COMPOSITE = hashlib.md5(bytes.fromhex(PROBE_MD5), usedforsecurity=False).hexdigest() + "-1"
_WRONG_ETAG = "0" * 32


async def composite_etag(context: DoctorContext) -> Outcome:
    """The ETag is the MD5 of the parts' MD5s and their number, as S3's."""
    key, upload_id = await _begin(context, "parts.txt", {})
    await _part(context, key, upload_id, 1)
    reply = await _complete(context, key, upload_id, [(1, PROBE_MD5)])
    found = _ETAG.search(reply.body)
    etag = html.unescape(found[1].decode(errors="replace")).strip('"') if found else None
    return as_expected(reply, "the MD5 of the parts' MD5s, and -1", etag, _COMPOSITE)


async def composite_checksum(context: DoctorContext) -> Outcome:
    """Report whether an object has a checksum if its parts had one. No source says so yet."""
    key, upload_id = await _begin(context, "checked.txt", {"x-amz-checksum-algorithm": "CRC32"})
    sent = await _part(context, key, upload_id, 1, {"x-amz-checksum-crc32": _CRC32})
    if not sent.ok:
        return as_expected(sent, "200 for a part with a CRC32", sent.short, "200")
    parts = [(1, unquote_etag(sent.headers["etag"]))]
    checksum = f"<ChecksumCRC32>{_CRC32}</ChecksumCRC32>"
    done = await _complete(context, key, upload_id, parts, checksum)
    if not done.ok:
        return as_expected(done, "200", done.short, "200")
    raw_client = await context.raw_client()
    reply = await raw_client.ask(
        "HeadObject", "HEAD", key, headers={"x-amz-checksum-mode": "ENABLED"}
    )
    checksum_of_object = reply.headers.get("x-amz-checksum-crc32")
    kind = reply.headers.get("x-amz-checksum-type", "no type")
    return passed(
        f"Parts with a CRC32 are accepted; that of the object is {checksum_of_object} ({kind})"
    )


async def part_too_small(context: DoctorContext) -> Outcome:
    """A part before the last one with less than 5 MB is 400 EntityTooSmall, as at AWS."""
    key, upload_id = await _begin(context, "small.txt", {})
    for number in (1, 2):
        await _part(context, key, upload_id, number)
    reply = await _complete(context, key, upload_id, [(1, PROBE_MD5), (2, PROBE_MD5)])
    return refused_as(reply, 400, "EntityTooSmall")


async def wrong_part(context: DoctorContext) -> Outcome:
    """A part that was not sent is 400 InvalidPart."""
    key, upload_id = await _begin(context, "wrong.txt", {})
    await _part(context, key, upload_id, 1)
    reply = await _complete(context, key, upload_id, [(1, _WRONG_ETAG)])
    return refused_as(reply, 400, "InvalidPart")


async def unknown_upload(context: DoctorContext) -> Outcome:
    """An aborted upload is 404 NoSuchUpload, which confirms an abort."""
    key, upload_id = await _begin(context, "aborted.txt", {})
    raw_client, query = await context.raw_client(), canonical_query({"uploadId": upload_id})
    await raw_client.ask("AbortMultipartUpload", "DELETE", key, query)
    reply = await raw_client.ask("AbortMultipartUpload", "DELETE", key, query)
    return refused_as(reply, 404, "NoSuchUpload")


async def live_read(context: DoctorContext) -> Outcome:
    """B2 accepts the headers of Live Read, and enforces its limit on the part size."""
    name = "x-backblaze-live-read"
    raw_client = await context.raw_client()
    begun = await raw_client.ask(
        "CreateMultipartUpload",
        "POST",
        context.store("live.txt"),
        "uploads=",
        {f"{name}-enabled": "true", f"{name}-part-size": "5000000"},
    )
    if not begun.ok:
        return as_expected(begun, "200", begun.short, "200")
    refused = await raw_client.ask(
        "CreateMultipartUpload",
        "POST",
        context.store("live.txt"),
        "uploads=",
        {f"{name}-enabled": "true", f"{name}-part-size": "5368709121"},
    )
    return refused_as(refused, 400, "InvalidArgument")


async def _begin(context: DoctorContext, name: str, headers: Mapping[str, str]) -> tuple[str, str]:
    raw_client, key = await context.raw_client(), context.store(name)
    reply = await raw_client.ask("CreateMultipartUpload", "POST", key, "uploads=", headers)
    found = _UPLOAD_ID.search(reply.body)
    if not reply.ok or found is None:
        raise reply.error()
    return key, found[1].decode()


async def _part(
    context: DoctorContext,
    key: str,
    upload_id: str,
    number: int,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    query = canonical_query({"partNumber": str(number), "uploadId": upload_id})
    return await (await context.raw_client()).ask("UploadPart", "PUT", key, query, headers, PROBE)


async def _complete(
    context: DoctorContext,
    key: str,
    upload_id: str,
    parts: list[tuple[int, str]],
    checksum: str = "",
) -> Reply:
    lines = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{html.escape(etag)}&quot;</ETag>"
        f"{checksum}</Part>"
        for number, etag in parts
    )
    body = f"<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>".encode()
    query = canonical_query({"uploadId": upload_id})
    raw_client = await context.raw_client()
    reply = await raw_client.ask("CompleteMultipartUpload", "POST", key, query, body=body)
    if reply.ok:
        context.leftovers.stored(key, reply.headers.get("x-amz-version-id"))
    return reply
