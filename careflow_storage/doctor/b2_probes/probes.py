"""Check the assumptions of this library about B2 on the server: no emulator can prove them.

Each check names the behaviour from Backblaze's documents or reports of its users, and passes if
the server behaves so. A warning is news for the maintainers, not an error of the user.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Awaitable, Callable

from careflow_storage._s3.signing.signer import canonical_query
from careflow_storage._s3.xml.documents import (
    build_delete_request,
    parse_delete_result,
    unquote_etag,
)
from careflow_storage.doctor.b2_probes import browser, multipart
from careflow_storage.doctor.b2_probes.expectation import as_expected, refused_as
from careflow_storage.doctor.context import PROBE, PROBE_MD5, DoctorContext
from careflow_storage.doctor.models import Outcome, passed
from careflow_storage.doctor.raw_client import Reply

_META = "100%25  of two"
_ENCODING = re.compile(rb"<EncodingType>\s*url\s*</EncodingType>")


async def single_put_etag(context: DoctorContext) -> Outcome:
    """The ETag of a single PUT is the MD5 of its bytes, with SSE-B2 too."""
    reply = await _put(context, "etag.txt", {})
    return as_expected(reply, "the MD5 as ETag", _etag(reply), PROBE_MD5)


async def conditional_put(context: DoctorContext) -> Outcome:
    """If-None-Match is not implemented (obsidian-s3-sync#78)."""
    reply = await _put(context, "conditional.txt", {"if-none-match": "*"})
    return refused_as(reply, 501, "NotImplemented")


async def tagging_header(context: DoctorContext) -> Outcome:
    """Objects have no tags (Intrinsec/s3proxy#34)."""
    reply = await _put(context, "tagged.txt", {"x-amz-tagging": "a=b"})
    return refused_as(reply, 400, "InvalidArgument")


async def wrong_md5(context: DoctorContext) -> Outcome:
    """B2 verifies Content-MD5, which keeps damaged recordings out."""
    other = base64.b64encode(hashlib.md5(b"other", usedforsecurity=False).digest()).decode()
    reply = await _put(context, "wrong-md5.txt", {"content-md5": other})
    return refused_as(reply, 400, "BadDigest")


async def crc32_of_put(context: DoctorContext) -> Outcome:
    """B2 stores a checksum with the object, and returns it on request (tus/tusd#1302)."""
    value = base64.b64encode(zlib.crc32(PROBE).to_bytes(4, "big")).decode()
    headers = {"x-amz-checksum-crc32": value, "x-amz-sdk-checksum-algorithm": "CRC32"}
    sent = await _put(context, "crc32.txt", headers)
    if not sent.ok:
        return as_expected(sent, "200", sent.short, "200")
    raw_client = await context.raw_client()
    reply = await raw_client.ask(
        "HeadObject",
        "HEAD",
        context.store("crc32.txt"),
        headers={"x-amz-checksum-mode": "ENABLED"},
    )
    returned = reply.headers.get("x-amz-checksum-crc32")
    return as_expected(reply, "the CRC32 in the response to HeadObject", returned, value)


async def wrong_crc32(context: DoctorContext) -> Outcome:
    """A wrong CRC32 is refused; BadDigest at AWS, B2's code is not known."""
    value = base64.b64encode(bytes(4)).decode()
    reply = await _put(context, "wrong-crc32.txt", {"x-amz-checksum-crc32": value})
    return refused_as(reply, 400, "BadDigest")


async def wrong_sha256(context: DoctorContext) -> Outcome:
    """A wrong x-amz-checksum-sha256 is refused."""
    value = base64.b64encode(bytes(32)).decode()
    reply = await _put(context, "wrong-sha256.txt", {"x-amz-checksum-sha256": value})
    return refused_as(reply, 400, "BadDigest")


async def crc32_of_delete(context: DoctorContext) -> Outcome:
    """DeleteObjects accepts a CRC32 instead of Content-MD5, as botocore sends it."""
    stored = await _put(context, "deleted.txt", {})
    key = context.store("deleted.txt")
    body = build_delete_request([(key, stored.headers.get("x-amz-version-id"))])
    crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    raw_client = await context.raw_client()
    reply = await raw_client.ask(
        "DeleteObjects",
        "POST",
        query="delete=",
        headers={"x-amz-checksum-crc32": crc, "x-amz-sdk-checksum-algorithm": "CRC32"},
        body=body,
    )
    if not reply.ok:
        return as_expected(reply, "200", reply.short, "200")
    failed = parse_delete_result(reply.body).failed
    return as_expected(reply, "every version erased", len(failed), 0)


async def metadata_kept(context: DoctorContext) -> Outcome:
    """Percent signs and double spaces in metadata are kept."""
    await _put(context, "metadata.txt", {"x-amz-meta-doctor": _META})
    raw_client = await context.raw_client()
    reply = await raw_client.ask("HeadObject", "HEAD", context.store("metadata.txt"))
    kept = reply.headers.get("x-amz-meta-doctor")
    return as_expected(reply, f"the metadata {_META!r}", kept, _META)


async def encoding_type(context: DoctorContext) -> Outcome:
    """A listing says that its keys are URL-encoded if the request wants that."""
    raw_client = await context.raw_client()
    query = {"encoding-type": "url", "list-type": "2", "prefix": context.folder}
    reply = await raw_client.ask("ListObjectsV2", "GET", query=canonical_query(query))
    found = _ENCODING.search(reply.body) is not None
    return as_expected(reply, "EncodingType url in the listing", found, True)


async def bucket_region(context: DoctorContext) -> Outcome:
    """HeadBucket returns the region (genblaze's backend relies on it)."""
    raw_client = await context.raw_client()
    reply = await raw_client.ask("HeadBucket", "HEAD")
    region = reply.headers.get("x-amz-bucket-region")
    return as_expected(reply, "the region in x-amz-bucket-region", region, context.current.region)


async def hidden_file(context: DoctorContext) -> Outcome:
    """A deleted file is a 404 that names its delete marker (b2-mcp)."""
    await _put(context, "hidden.txt", {})
    key = context.store("hidden.txt")
    raw_client = await context.raw_client()
    await raw_client.ask("DeleteObject", "DELETE", key)
    reply = await raw_client.ask("HeadObject", "HEAD", key)
    marker = reply.headers.get("x-amz-delete-marker")
    return as_expected(reply, "404 and x-amz-delete-marker", (reply.status, marker), (404, "true"))


async def range_beyond(context: DoctorContext) -> Outcome:
    """A range behind the end is 416 InvalidRange."""
    await _put(context, "range.txt", {})
    raw_client = await context.raw_client()
    headers = {"range": f"bytes={len(PROBE)}-"}
    reply = await raw_client.ask("GetObject", "GET", context.store("range.txt"), headers=headers)
    return refused_as(reply, 416, "InvalidRange")


async def object_attributes(context: DoctorContext) -> Outcome:
    """GetObjectAttributes is not implemented: B2's list of calls does not have it."""
    await _put(context, "attributes.txt", {})
    raw_client = await context.raw_client()
    reply = await raw_client.ask(
        "GetObjectAttributes",
        "GET",
        context.store("attributes.txt"),
        "attributes=",
        {"x-amz-object-attributes": "ETag"},
    )
    return refused_as(reply, 501, "NotImplemented")


async def object_tags(context: DoctorContext) -> Outcome:
    """GetObjectTagging is a stub without tags (stv0g/gose#42)."""
    await _put(context, "tags.txt", {})
    raw_client = await context.raw_client()
    reply = await raw_client.ask("GetObjectTagging", "GET", context.store("tags.txt"), "tagging=")
    none = reply.ok and b"<Tag>" not in reply.body
    return as_expected(reply, "an empty list of tags", none, True)


async def customer_key_etag(context: DoctorContext) -> Outcome | None:
    """Report the ETag of an upload with a customer's key (SSE-C). No source says it yet."""
    if not context.endpoint.startswith("https://"):
        return None
    secret = hashlib.sha256(context.folder.encode()).digest()
    headers = {
        "x-amz-server-side-encryption-customer-algorithm": "AES256",
        "x-amz-server-side-encryption-customer-key": base64.b64encode(secret).decode(),
        "x-amz-server-side-encryption-customer-key-md5": base64.b64encode(
            hashlib.md5(secret, usedforsecurity=False).digest()
        ).decode(),
    }
    reply = await _put(context, "customer-key.txt", headers)
    if not reply.ok:
        return as_expected(reply, "200", reply.short, "200")
    same = "is" if _etag(reply) == PROBE_MD5 else "is not"
    return passed(f"PutObject with SSE-C works; its ETag {same} the MD5")


async def lifecycle_form(context: DoctorContext) -> Outcome | None:
    """This library can read the existing lifecycle rules. Creates none."""
    rules = context.configuration.get("lifecycle rules", {}).get("Rules", [])
    if not rules:
        return None
    known = {
        *("ID", "Status", "Filter", "Prefix", "Expiration", "NoncurrentVersionExpiration"),
        "AbortIncompleteMultipartUpload",
    }
    unknown = sorted({name for rule in rules for name in rule} - known)
    shapes = sorted({"Filter" if "Filter" in rule else "Prefix" for rule in rules})
    if unknown:
        return as_expected(None, "no other elements in lifecycle rules", unknown, [])
    return passed(f"Lifecycle rules are understood ({len(rules)}, by {' and '.join(shapes)})")


# --- details ----------------------------------------------------------------------------


async def _put(context: DoctorContext, name: str, headers: dict[str, str]) -> Reply:
    raw_client = await context.raw_client()
    key = context.store(name)
    reply = await raw_client.ask(
        "PutObject", "PUT", key, headers={"content-type": "text/plain", **headers}, body=PROBE
    )
    if reply.ok:
        context.leftovers.stored(key, reply.headers.get("x-amz-version-id"))
    else:
        context.leftovers.refused(key)
    return reply


def _etag(reply: Reply) -> str | None:
    return unquote_etag(reply.headers["etag"]) if "etag" in reply.headers else None


CHECKS: dict[str, Callable[[DoctorContext], Awaitable[Outcome | None]]] = {
    "etag of a put": single_put_etag,
    "conditional put": conditional_put,
    "post policy": browser.post_policy,
    "tagging header": tagging_header,
    "get tagging": object_tags,
    "object attributes": object_attributes,
    "wrong content-md5": wrong_md5,
    "crc32 of a put": crc32_of_put,
    "wrong crc32": wrong_crc32,
    "wrong sha256": wrong_sha256,
    "crc32 of deletions": crc32_of_delete,
    "signed length": browser.signed_length,
    "url for 8 days": browser.url_too_long,
    "metadata": metadata_kept,
    "encoding-type": encoding_type,
    "bucket region": bucket_region,
    "hidden file": hidden_file,
    "range beyond the end": range_beyond,
    "multipart etag": multipart.composite_etag,
    "multipart checksum": multipart.composite_checksum,
    "part too small": multipart.part_too_small,
    "wrong part": multipart.wrong_part,
    "unknown upload": multipart.unknown_upload,
    "live read": multipart.live_read,
    "customer key": customer_key_etag,
    "lifecycle form": lifecycle_form,
}
