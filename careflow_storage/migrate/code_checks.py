"""Calls of code for AWS S3, and what to change in the code if they fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import aiohttp

from careflow_storage._s3.session import plain_client
from careflow_storage.migrate.harness import CodeCheck, DiffersError, FailedError, Harness

_BODY = b"careflow-storage checks whether old S3 code works here\n"


async def _put(harness: Harness) -> None:
    try:
        await harness.client.put_object(**harness.same, Body=_BODY)
    except Exception:
        # The other checks need the object: store it as changed code would.
        async with plain_client(
            harness.settings, request_checksum_calculation="when_required"
        ) as careful:
            await careful.put_object(**harness.same, Body=_BODY)
        raise


async def _get(harness: Harness) -> None:
    response = await harness.client.get_object(**harness.same)
    _require(await response["Body"].read() == _BODY, "other bytes came back")


async def _head(harness: Harness) -> None:
    response = await harness.client.head_object(**harness.same)
    _require(response["ContentLength"] == len(_BODY), "it reports another length")


async def _list(harness: Harness) -> None:
    response = await harness.client.list_objects_v2(Bucket=harness.bucket, Prefix=harness.key)
    found = [each["Key"] for each in response.get("Contents", ())]
    _require(found == [harness.key], "the object is missing in the listing")


async def _copy(harness: Harness) -> None:
    await harness.client.copy_object(**harness.other("copy"), CopySource=harness.same)


async def _multipart(harness: Harness) -> None:
    where = harness.other("multipart")
    upload = await harness.client.create_multipart_upload(**where)
    where["UploadId"] = upload["UploadId"]
    part = await harness.client.upload_part(**where, PartNumber=1, Body=_BODY)
    parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
    await harness.client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})


async def _presigned_get(harness: Harness) -> None:
    url = await harness.client.generate_presigned_url("get_object", harness.same, ExpiresIn=60)
    _require(await harness.send("GET", url) == _BODY, "other bytes came back")


async def _presigned_put(harness: Harness) -> None:
    where = harness.other("presigned-put")
    url = await harness.client.generate_presigned_url("put_object", where, ExpiresIn=60)
    await harness.send("PUT", url, data=_BODY)


async def _presigned_post(harness: Harness) -> None:
    where = harness.other("presigned-post")
    post = await harness.client.generate_presigned_post(**where, ExpiresIn=60)
    form = aiohttp.FormData(post["fields"])
    form.add_field("file", _BODY, filename="recording.webm")
    await harness.send("POST", post["url"], data=form)


async def _virtual_host(harness: Harness) -> None:
    async with plain_client(harness.settings, s3={"addressing_style": "virtual"}) as client:
        await client.head_object(**harness.same)


async def _delete_many(harness: Harness) -> None:
    where = harness.other("batch")
    await harness.client.put_object(**where, Body=_BODY)
    response = await harness.client.delete_objects(
        Bucket=harness.bucket, Delete={"Objects": [{"Key": where["Key"]}]}
    )
    _require(not response.get("Errors"), "it was not deleted")


async def _delete(harness: Harness) -> None:
    where = harness.other("deleted")
    await harness.client.put_object(**where, Body=_BODY)
    await harness.client.delete_object(**where)
    response = await harness.client.list_object_versions(Bucket=harness.bucket, Prefix=where["Key"])
    if response.get("Versions"):
        raise DiffersError("the file is hidden; its bytes are still stored and billed")


async def _attributes(harness: Harness) -> None:
    await harness.client.get_object_attributes(**harness.same, ObjectAttributes=["ObjectSize"])


def _put_with(name: str, **arguments: str) -> Callable[[Harness], Awaitable[None]]:
    async def put(harness: Harness) -> None:
        await harness.client.put_object(**harness.other(name), Body=_BODY, **arguments)

    return put


async def _put_if_none(harness: Harness) -> None:
    try:
        await harness.client.put_object(**harness.same, Body=_BODY, IfNoneMatch="*")
    except Exception as error:
        if getattr(error, "response", {}).get("Error", {}).get("Code") == "PreconditionFailed":
            return
        raise
    raise DiffersError("the condition was ignored: the file was overwritten")


async def _put_tags(harness: Harness) -> None:
    await _put_with("tagged", Tagging="kind=probe")(harness)
    response = await harness.client.get_object_tagging(**harness.other("tagged"))
    if not response.get("TagSet"):
        raise DiffersError("the server dropped the tags")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise FailedError(otherwise)


_CHECKSUMS = (
    'Config(request_checksum_calculation="when_required", '
    'response_checksum_validation="when_required")'
)
CODE_CHECKS = (
    CodeCheck(
        "Upload",
        "put_object(Body=...)",
        _put,
        f"Configure the client with {_CHECKSUMS}.",
        needed=True,
    ),
    CodeCheck("Download", "get_object()", _get, f"Configure the client with {_CHECKSUMS}."),
    CodeCheck("Metadata", "head_object()", _head, "Check the key's capability readFiles."),
    CodeCheck("List", "list_objects_v2(Prefix=...)", _list, "Check the capability listFiles."),
    CodeCheck("Copy", "copy_object(CopySource=...)", _copy, "Download and upload it."),
    CodeCheck(
        "Multipart upload",
        "create_multipart_upload(), upload_part(), complete_multipart_upload()",
        _multipart,
        f"Configure the client with {_CHECKSUMS}.",
    ),
    CodeCheck(
        "Presigned download",
        'generate_presigned_url("get_object")',
        _presigned_get,
        'Configure the client with Config(signature_version="s3v4"): without it botocore signs '
        "URLs with version 2.",
    ),
    CodeCheck(
        "Presigned upload",
        'generate_presigned_url("put_object")',
        _presigned_put,
        'Configure the client with Config(signature_version="s3v4"): without it botocore signs '
        "URLs with version 2.",
    ),
    CodeCheck(
        "Browser form",
        "generate_presigned_post()",
        _presigned_post,
        "Use a presigned PUT; sign ContentLength and ContentType to limit the upload.",
    ),
    CodeCheck(
        "Bucket in the host name",
        'Config(s3={"addressing_style": "virtual"})',
        _virtual_host,
        'Use Config(s3={"addressing_style": "path"}).',
    ),
    CodeCheck(
        "Upload only if it is new",
        'put_object(IfNoneMatch="*")',
        _put_if_none,
        "Call head_object first, or use upload_file(overwrite=False), whose documentation says "
        "what it guarantees. Older versions stay in any case.",
    ),
    CodeCheck("Tags", "put_object(Tagging=...)", _put_tags, "Use Metadata=... instead."),
    CodeCheck(
        "Public file",
        'put_object(ACL="public-read")',
        _put_with("acl", ACL="public-read"),
        "Leave ACL out: a bucket is private or public as a whole. Use presigned URLs.",
    ),
    CodeCheck(
        "Owner's ACL",
        'put_object(ACL="bucket-owner-full-control")',
        _put_with("owner-acl", ACL="bucket-owner-full-control"),
        "Leave ACL out.",
    ),
    CodeCheck(
        "Encryption by KMS",
        'put_object(ServerSideEncryption="aws:kms")',
        _put_with("kms", ServerSideEncryption="aws:kms"),
        'Use ServerSideEncryption="AES256", or leave it to the bucket\'s default.',
    ),
    CodeCheck(
        "Storage class",
        'put_object(StorageClass="STANDARD_IA")',
        _put_with("class", StorageClass="STANDARD_IA"),
        "Leave StorageClass out: B2 has one storage class.",
    ),
    CodeCheck(
        "Attributes",
        "get_object_attributes()",
        _attributes,
        "Use head_object().",
    ),
    CodeCheck(
        "Delete many",
        "delete_objects()",
        _delete_many,
        "Call delete_object() for each: this endpoint requires Content-MD5 for batches.",
    ),
    CodeCheck(
        "Delete",
        "delete_object()",
        _delete,
        "Erase with delete_object(VersionId=...), purge_file() or a lifecycle rule.",
    ),
)
