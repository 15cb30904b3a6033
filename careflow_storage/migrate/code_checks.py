"""What code for AWS S3 does, each as a few lines of it, and what to change if it fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import aiohttp

from careflow_storage._s3.session import plain_client
from careflow_storage.migrate.harness import Attempt, DiffersError, RefusedError, Trial

_BODY = b"careflow-storage checks whether old S3 code works here\n"


async def _put(trial: Trial) -> None:
    try:
        await trial.client.put_object(**trial.same, Body=_BODY)
    except Exception:
        # For the others' sake, as code would do it that was changed already.
        async with plain_client(
            trial.settings, request_checksum_calculation="when_required"
        ) as careful:
            await careful.put_object(**trial.same, Body=_BODY)
        raise


async def _get(trial: Trial) -> None:
    response = await trial.client.get_object(**trial.same)
    _require(await response["Body"].read() == _BODY, "other bytes came back")


async def _head(trial: Trial) -> None:
    response = await trial.client.head_object(**trial.same)
    _require(response["ContentLength"] == len(_BODY), "it tells another length")


async def _list(trial: Trial) -> None:
    response = await trial.client.list_objects_v2(Bucket=trial.bucket, Prefix=trial.key)
    found = [each["Key"] for each in response.get("Contents", ())]
    _require(found == [trial.key], "the object is not in it")


async def _copy(trial: Trial) -> None:
    await trial.client.copy_object(**trial.other("copy"), CopySource=trial.same)


async def _multipart(trial: Trial) -> None:
    where = trial.other("multipart")
    upload = await trial.client.create_multipart_upload(**where)
    where["UploadId"] = upload["UploadId"]
    part = await trial.client.upload_part(**where, PartNumber=1, Body=_BODY)
    parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
    await trial.client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})


async def _presigned_get(trial: Trial) -> None:
    url = await trial.client.generate_presigned_url("get_object", trial.same, ExpiresIn=60)
    _require(await trial.send("GET", url) == _BODY, "other bytes came back")


async def _presigned_put(trial: Trial) -> None:
    where = trial.other("presigned-put")
    url = await trial.client.generate_presigned_url("put_object", where, ExpiresIn=60)
    await trial.send("PUT", url, data=_BODY)


async def _presigned_post(trial: Trial) -> None:
    where = trial.other("presigned-post")
    post = await trial.client.generate_presigned_post(**where, ExpiresIn=60)
    form = aiohttp.FormData(post["fields"])
    form.add_field("file", _BODY, filename="recording.webm")
    await trial.send("POST", post["url"], data=form)


async def _virtual_host(trial: Trial) -> None:
    async with plain_client(trial.settings, s3={"addressing_style": "virtual"}) as client:
        await client.head_object(**trial.same)


async def _delete_many(trial: Trial) -> None:
    where = trial.other("batch")
    await trial.client.put_object(**where, Body=_BODY)
    response = await trial.client.delete_objects(
        Bucket=trial.bucket, Delete={"Objects": [{"Key": where["Key"]}]}
    )
    _require(not response.get("Errors"), "it was not deleted")


async def _delete(trial: Trial) -> None:
    where = trial.other("deleted")
    await trial.client.put_object(**where, Body=_BODY)
    await trial.client.delete_object(**where)
    response = await trial.client.list_object_versions(Bucket=trial.bucket, Prefix=where["Key"])
    if response.get("Versions"):
        raise DiffersError("the file is hidden; its bytes are still stored and billed")


async def _attributes(trial: Trial) -> None:
    await trial.client.get_object_attributes(**trial.same, ObjectAttributes=["ObjectSize"])


def _put_with(name: str, **arguments: str) -> Callable[[Trial], Awaitable[None]]:
    async def put(trial: Trial) -> None:
        await trial.client.put_object(**trial.other(name), Body=_BODY, **arguments)

    return put


async def _put_if_none(trial: Trial) -> None:
    try:
        await trial.client.put_object(**trial.same, Body=_BODY, IfNoneMatch="*")
    except Exception as error:
        if getattr(error, "response", {}).get("Error", {}).get("Code") == "PreconditionFailed":
            return
        raise
    raise DiffersError("the condition was ignored: the file was overwritten")


async def _put_tags(trial: Trial) -> None:
    await _put_with("tagged", Tagging="kind=probe")(trial)
    response = await trial.client.get_object_tagging(**trial.other("tagged"))
    if not response.get("TagSet"):
        raise DiffersError("the tags were thrown away")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise RefusedError(otherwise)


_CHECKSUMS = (
    'Config(request_checksum_calculation="when_required", '
    'response_checksum_validation="when_required")'
)
ATTEMPTS = (
    Attempt("Upload", "put_object(Body=...)", _put, f"Give the client {_CHECKSUMS}.", needed=True),
    Attempt("Download", "get_object()", _get, f"Give the client {_CHECKSUMS}."),
    Attempt("Metadata", "head_object()", _head, "Check the key's capability readFiles."),
    Attempt("List", "list_objects_v2(Prefix=...)", _list, "Check the capability listFiles."),
    Attempt("Copy", "copy_object(CopySource=...)", _copy, "Download and upload it."),
    Attempt(
        "Multipart upload",
        "create_multipart_upload(), upload_part(), complete_multipart_upload()",
        _multipart,
        f"Give the client {_CHECKSUMS}.",
    ),
    Attempt(
        "Presigned download",
        'generate_presigned_url("get_object")',
        _presigned_get,
        'Give the client Config(signature_version="s3v4"): without it botocore signs URLs with '
        "version 2.",
    ),
    Attempt(
        "Presigned upload",
        'generate_presigned_url("put_object")',
        _presigned_put,
        'Give the client Config(signature_version="s3v4"): without it botocore signs URLs with '
        "version 2.",
    ),
    Attempt(
        "Browser form",
        "generate_presigned_post()",
        _presigned_post,
        "Use a presigned PUT; sign ContentLength and ContentType to bound what is uploaded.",
    ),
    Attempt(
        "Bucket in the host name",
        'Config(s3={"addressing_style": "virtual"})',
        _virtual_host,
        'Use Config(s3={"addressing_style": "path"}).',
    ),
    Attempt(
        "Upload only if it is new",
        'put_object(IfNoneMatch="*")',
        _put_if_none,
        "Ask with head_object before, or use upload_file(overwrite=False), which says what it "
        "can promise; older versions stay in any case.",
    ),
    Attempt("Tags", "put_object(Tagging=...)", _put_tags, "Use Metadata=... instead."),
    Attempt(
        "Public file",
        'put_object(ACL="public-read")',
        _put_with("acl", ACL="public-read"),
        "Leave ACL out: a bucket is private or public as a whole. Give presigned URLs.",
    ),
    Attempt(
        "Owner's ACL",
        'put_object(ACL="bucket-owner-full-control")',
        _put_with("owner-acl", ACL="bucket-owner-full-control"),
        "Leave ACL out.",
    ),
    Attempt(
        "Encryption by KMS",
        'put_object(ServerSideEncryption="aws:kms")',
        _put_with("kms", ServerSideEncryption="aws:kms"),
        'Use ServerSideEncryption="AES256", or leave it to the bucket\'s default.',
    ),
    Attempt(
        "Storage class",
        'put_object(StorageClass="STANDARD_IA")',
        _put_with("class", StorageClass="STANDARD_IA"),
        "Leave StorageClass out: there is one, with one price.",
    ),
    Attempt(
        "Attributes",
        "get_object_attributes()",
        _attributes,
        "Use head_object().",
    ),
    Attempt(
        "Delete many",
        "delete_objects()",
        _delete_many,
        "Call delete_object() for each: this endpoint wants Content-MD5 for batches.",
    ),
    Attempt(
        "Delete",
        "delete_object()",
        _delete,
        "Erase with delete_object(VersionId=...) or purge_file(), or let a lifecycle rule do it.",
    ),
)
