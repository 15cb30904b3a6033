"""What the key may do: try each call on a probe, and erase the probe."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import replace

from careflow_storage._s3.headers.objects import StoreResult
from careflow_storage._s3.requests.presign import Grant, presign
from careflow_storage._s3.signing.signer import canonical_query
from careflow_storage._s3.xml.documents import unquote_etag
from careflow_storage.doctor.checks.locked import locks, wants_md5
from careflow_storage.doctor.checks.refusals import GRANT, denied, nothing_to_read, refused, whose
from careflow_storage.doctor.context import PROBE, PROBE_MD5, DoctorContext
from careflow_storage.doctor.explain import (
    ACCESS_SOLUTION,
    in_words,
    outcome_of,
)
from careflow_storage.doctor.models import Outcome, failed, passed, skipped, warned
from careflow_storage.errors import (
    AccessDeniedError,
    NoSuchKeyError,
    ServerResponseError,
    StorageError,
)

_LOCKED = (
    "The bucket locks every new file, so nothing is stored. The check multipart shows whether "
    "the key may write."
)


async def list_files(context: DoctorContext) -> Outcome:
    """Judge the first listing as a listing."""
    reply = context.listing
    if reply is None or not reply.ok:
        return refused(context, reply, "listFiles", "list_files, usage and resuming uploads")
    return passed("ListObjectsV2 works")


async def put(context: DoctorContext) -> Outcome | list[Outcome]:
    """Store the probe, with the checksum that uploads send.

    If the default retention could not be read, store it without a checksum: a bucket that would
    lock the probe refuses it then.
    """
    if context.locks is not None:
        context.sample = await _any_key(context)
        return skipped(_LOCKED)
    key = context.store("probe.txt")
    try:
        stored = await _store(context, key)
    except AccessDeniedError as error:
        context.leftovers.refused(key)
        context.sample = await _any_key(context)
        return denied(context, error, "writeFiles", "uploads and delete_file")
    except StorageError as error:
        if not wants_md5(error):
            raise
        context.leftovers.refused(key)
        context.sample = await _any_key(context)
        found = locks(context, "for how long is unknown, as the key lacks readBucketRetentions")
        return [replace(found, check="default retention"), skipped(_LOCKED)]
    context.leftovers.stored(key, stored.version_id)
    context.sample = key
    context.may["put"] = True
    return _verified(stored)


async def _store(context: DoctorContext, key: str) -> StoreResult:
    headers = {"content-type": "text/plain"}
    if not context.locks_are_unread:
        headers["content-md5"] = base64.b64encode(bytes.fromhex(PROBE_MD5)).decode()
        return await (await context.transfer()).requests.put_object(key, PROBE, headers)
    # Unlike uploads, which send a refused request again with Content-MD5.
    raw_client = await context.raw_client()
    reply = await raw_client.ask("PutObject", "PUT", key, headers=headers, body=PROBE)
    if not reply.ok:
        raise reply.error()
    etag, version_id = reply.headers.get("etag", ""), reply.headers.get("x-amz-version-id")
    return StoreResult(unquote_etag(etag), version_id, reply.headers)


async def _any_key(context: DoctorContext) -> str | None:
    """Find an existing file, to check on it whether the key may read."""
    requests = (await context.transfer()).requests
    for prefix in (context.probe_prefix, ""):
        with contextlib.suppress(AccessDeniedError):
            page = await requests.list_objects(prefix, max_keys=1)
            if page.files:
                return page.files[0].key
    return None


def _verified(stored: StoreResult) -> Outcome:
    encrypted = stored.headers.get("x-amz-server-side-encryption", "")
    if stored.etag == PROBE_MD5 or encrypted not in ("", "AES256"):
        return passed(f"PutObject works ({len(PROBE)} bytes below the probe prefix)")
    return warned(
        "PutObject works, but the ETag is not the MD5 of the body.",
        "A gateway or another encryption changes the file.",
        "Downloads of single-part files are verified by length only.",
    )


async def head(context: DoctorContext) -> Outcome:
    """Request the metadata of the probe, or of an existing file."""
    key = context.sample
    if key is None:
        return nothing_to_read()
    transfer = await context.transfer()
    try:
        await transfer.requests.head_object(key)
    except AccessDeniedError as error:
        return denied(context, error, "readFiles", "get_file_metadata and file_exists")
    return passed(f"HeadObject works{whose(context)}")


async def get(context: DoctorContext) -> Outcome:
    """Read the probe back; of another file read one byte at most."""
    key = context.sample
    if key is None:
        return await _read_nothing(context)
    raw_client = await context.raw_client()
    headers = {} if key == context.probe else {"range": "bytes=0-0"}
    reply = await raw_client.ask("GetObject", "GET", key, headers=headers)
    # 416: the file is empty. Only a key that may read gets this response.
    if not reply.ok and reply.status != 416:
        return refused(context, reply, "readFiles", "downloads and URLs to play from")
    if key == context.probe and reply.body != PROBE:
        return failed(
            "GetObject returned other bytes than PutObject stored.",
            "A proxy or gateway changes the bytes in transit.",
            "Do not store recordings this way. Find the proxy or gateway.",
        )
    context.may["get"] = True
    return passed(f"GetObject works{whose(context)}")


async def _read_nothing(context: DoctorContext) -> Outcome:
    """Without a file, request a missing one: only a key that may read gets a 404."""
    raw_client = await context.raw_client()
    reply = await raw_client.ask("GetObject", "GET", f"{context.folder}nothing-is-here")
    if isinstance(reply.error(), NoSuchKeyError):
        context.may["get"] = True
        return passed("GetObject works (it reports a missing file as missing)")
    if "cannot access bucket" in in_words(reply.error()).lower():
        # B2 sends this only for a missing file, to a key without listBuckets.
        context.may["get"] = True
        return skipped("There is no file to read.")
    return refused(context, reply, "readFiles", "downloads and URLs to play from")


async def missing_file(context: DoctorContext) -> Outcome:
    """B2 responds with 403 for a missing file if the key lacks listBuckets (kopia#5329)."""
    raw_client = await context.raw_client()
    reply = await raw_client.ask("GetObject", "GET", f"{context.folder}nothing-is-here")
    error = reply.error()
    if isinstance(error, NoSuchKeyError):
        return passed("A missing file is a 404")
    if reply.status != 403 or isinstance(error, ServerResponseError):
        return outcome_of(error)
    if context.may.get("get") is None:
        return skipped("The key may not read, so a missing file looks like a denied one.")
    return warned(
        f"A missing file is a 403 ({in_words(reply.error())}).",
        "Without listBuckets B2 denies access to files that do not exist.",
        "Give the key listBuckets. Until then get_file raises AccessDeniedError for a missing "
        "file, and file_exists needs a listing (listFiles).",
    )


async def presigned_url(context: DoctorContext) -> Outcome:
    """Fetch a presigned URL as a browser does: without a key."""
    key = context.sample
    if key is None:
        return nothing_to_read()
    transfer = await context.transfer()
    (url,) = await presign(transfer.session, [key], Grant.checked(60, "GET"))
    raw_client = await context.raw_client()
    whole = key == context.probe
    reply = await raw_client.fetch("GetObject", "GET", url, {} if whole else {"range": "bytes=0-0"})
    if reply.ok or reply.status == 416:
        return passed(f"A presigned URL plays without a key{whose(context)}")
    return refused(context, reply, "readFiles", "get_signed_url: its URLs are refused")


async def multipart(context: DoctorContext) -> Outcome:
    """Begin a multipart upload and abort it."""
    transfer = await context.transfer()
    key = context.store("multipart.txt")
    try:
        begun = await transfer.multipart.create(key, {"content-type": "text/plain"}, "md5")
        await transfer.multipart.abort(key, begun.upload_id)
    except AccessDeniedError as error:
        context.leftovers.refused(key)
        return denied(context, error, "writeFiles", "uploads of large files and live recordings")
    context.leftovers.refused(key)
    if context.locks is not None:
        context.may["put"] = True
    return passed("CreateMultipartUpload and AbortMultipartUpload work")


async def list_versions(context: DoctorContext) -> Outcome:
    """List the versions and delete markers of the probe."""
    transfer = await context.transfer()
    parameters = {"Prefix": context.folder, "MaxKeys": 1}
    try:
        await transfer.control.call("list_object_versions", None, parameters, dict)
    except AccessDeniedError as error:
        return denied(context, error, "listFiles", "purge_file, restore_file and usage")
    return passed("ListObjectVersions works")


async def list_uploads(context: DoctorContext) -> Outcome:
    """List the unfinished uploads below the probe prefix."""
    transfer = await context.transfer()
    parameters = {"Prefix": context.probe_prefix, "MaxUploads": 1}
    try:
        await transfer.control.call("list_multipart_uploads", None, parameters, dict)
    except AccessDeniedError as error:
        return denied(context, error, "listFiles", "resuming, and abort_stale_uploads")
    return passed("ListMultipartUploads works")


async def delete(context: DoctorContext) -> Outcome:
    """Delete by name: B2 hides the file with a delete marker."""
    if "put" not in context.may or context.locks is not None:
        return nothing_to_read()
    transfer = await context.transfer()
    key = context.probe
    try:
        version_id, is_marker = await transfer.requests.delete_object(key)
    except AccessDeniedError as error:
        return denied(context, error, "writeFiles", "delete_file")
    context.leftovers.stored(key, version_id, marker=is_marker)
    if is_marker or version_id:
        return passed("DeleteObject hides a file; its versions stay until they are erased")
    return warned(
        "DeleteObject erases at once, without a delete marker.",
        "The bucket keeps no versions. B2's always do.",
        "On another server enable versioning, or accept that deleting is permanent.",
    )


async def erase(context: DoctorContext) -> Outcome:
    """Erase the stored version permanently."""
    if "put" not in context.may or context.locks is not None:
        return nothing_to_read()
    version_id = context.leftovers.version_of(context.probe)
    if version_id is None:
        return skipped(
            "The server returned no version ID for the probe: there is no version to erase."
        )
    raw_client = await context.raw_client()
    query = canonical_query({"versionId": version_id})
    reply = await raw_client.ask("DeleteObject", "DELETE", context.probe, query)
    if not reply.ok:
        return refused(
            context, reply, "deleteFiles", "purge_file and delete_file with a version ID"
        )
    context.leftovers.erased(context.probe, version_id)
    return passed("DeleteObject erases a version permanently")


async def usable(context: DoctorContext) -> Outcome | None:
    """Accept a key that only reads or only writes; fail for one that can do neither."""
    reads, writes = context.may.get("get", False), context.may.get("put", False)
    if reads and writes:
        return None
    if reads or writes:
        kind = "reads only" if reads else "writes only"
        return passed(f"The key {kind}: fine if that is intended")
    return failed(
        "The key can neither read nor write here.",
        "Incorrect credentials or insufficient permissions.",
        f"{ACCESS_SOLUTION} {GRANT}",
    )
