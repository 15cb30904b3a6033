"""Check that the server knows the key, and that the bucket exists."""

from __future__ import annotations

from careflow_storage._s3.redaction import printable
from careflow_storage._s3.responses.check import explain_malformed, is_marked
from careflow_storage._s3.signing.signer import canonical_query
from careflow_storage._s3.xml.documents import parse_listing
from careflow_storage.doctor.context import DoctorContext
from careflow_storage.doctor.explain import (
    ACCESS_SOLUTION,
    NO_BUCKET_CAUSE,
    NO_BUCKET_SOLUTION,
    NOT_S3_CAUSE,
    NOT_S3_SOLUTION,
    REGION_SOLUTION,
    in_words,
    is_not_s3_enabled,
    outcome_of,
)
from careflow_storage.doctor.models import Outcome, failed, passed, warned
from careflow_storage.doctor.raw_client import Reply
from careflow_storage.errors import (
    CapExceededError,
    InvalidCredentialsError,
    NoSuchBucketError,
    ServerResponseError,
    StorageError,
)


async def credentials(context: DoctorContext) -> Outcome:
    """Send a signed listing: any response but one about credentials proves the key valid."""
    reply = await _list(context)
    context.listing = reply
    if reply.ok:
        try:
            parse_listing(reply.body)
        except ServerResponseError as malformed:
            explain_malformed(malformed, reply.status, reply.headers, reply.body)
            context.listing = None
            return outcome_of(malformed)
        return passed("The server knows the key, and the signature is valid")
    error = reply.error()
    if isinstance(error, ServerResponseError):
        return outcome_of(error)
    if isinstance(error, InvalidCredentialsError):
        cause, solution = _wrong_credentials(context, error)
        return failed(in_words(error), cause, solution)
    return passed(f"The server knows the key (and responds with {reply.short})")


async def _list(context: DoctorContext) -> Reply:
    query = {"list-type": "2", "max-keys": "1", "prefix": context.probe_prefix}
    raw_client = await context.raw_client()
    return await raw_client.ask("ListObjectsV2", "GET", query=canonical_query(query))


def _wrong_credentials(context: DoctorContext, error: StorageError) -> tuple[str, str]:
    code, message = error.code, error.message.lower()
    skewed = context.skew is not None and abs(context.skew.total_seconds()) > 600
    if code == "RequestTimeTooSkewed" or (skewed and code == "SignatureDoesNotMatch"):
        return (
            "The clock of this machine is wrong: S3 refuses signatures that are off by 15 minutes.",
            "Synchronize the clock (NTP: `timedatectl set-ntp true`).",
        )
    if code == "InvalidAccessKeyId" and "malformed" in message:
        return (
            "Incorrect credentials: the key is the master key, or BACKBLAZE_KEY_ID is mangled. "
            "B2's S3 API accepts application keys only.",
            "Create an application key on the console's page Application Keys, and use its "
            "keyID and applicationKey.",
        )
    if code == "InvalidAccessKeyId":
        return (
            "Incorrect credentials: this key was deleted, has expired, or belongs to another "
            "account or region than the endpoint.",
            "Compare BACKBLAZE_KEY_ID with the console's page Application Keys, and "
            "BACKBLAZE_ENDPOINT with the bucket's. If both match, create a new key.",
        )
    if code == "AuthorizationHeaderMalformed":
        return ("The request was signed for another region.", REGION_SOLUTION)
    if code == "SignatureDoesNotMatch":
        return (
            "Incorrect credentials: BACKBLAZE_APPLICATION_KEY does not belong to "
            "BACKBLAZE_KEY_ID, or BACKBLAZE_REGION is not the server's.",
            "Copy both again, from the same key. The application key is shown only once, so "
            "create a new key if it is lost. Do not set BACKBLAZE_REGION for B2.",
        )
    return ("Incorrect credentials or insufficient permissions.", error.hint or ACCESS_SOLUTION)


async def bucket(context: DoctorContext) -> Outcome:
    """Check that the bucket exists, in this account and region, and that S3 can access it."""
    raw_client = await context.raw_client()
    head = await raw_client.ask("HeadBucket", "HEAD")
    name = context.current.bucket_name
    region = head.headers.get("x-amz-bucket-region")
    here = context.current.region
    if head.status in (301, 307):
        return failed(
            f"{name} is in {printable(region or 'another region', 60)}, not in {here}.",
            "The endpoint is that of another region.",
            f"Set BACKBLAZE_ENDPOINT=https://s3.{printable(region, 60)}.backblazeb2.com"
            if region and context.current.is_b2
            else REGION_SOLUTION,
        )
    if head.ok and (is_marked(head.headers) or _was_listed(context)):
        if region not in (None, here):
            return warned(
                f"{name} exists, but in {printable(region, 60)}, not in {here}.",
                "The server reports that region, but accepts requests for another one.",
                "Set BACKBLAZE_REGION to it.",
            )
        return passed(f"{name} exists{f', in {region}' if region else ''}")
    # The response to a HEAD has no body with a reason; that of the listing has one.
    listing = context.listing
    if listing is not None and listing.ok:
        return passed(f"{name} exists (HeadBucket responds with {head.short}: no listBuckets)")
    error = (listing or head).error()
    if isinstance(error, ServerResponseError):
        return outcome_of(error)
    if isinstance(error, NoSuchBucketError) or head.status == 404:
        if error.status in (301, 307):
            return failed(in_words(error), "The endpoint is of another region.", REGION_SOLUTION)
        return failed(f"There is no bucket {name}.", NO_BUCKET_CAUSE, NO_BUCKET_SOLUTION)
    if is_not_s3_enabled(error):
        return failed(in_words(error), NOT_S3_CAUSE, NOT_S3_SOLUTION)
    if isinstance(error, CapExceededError):
        return outcome_of(error)
    return warned(
        f"Cannot find out whether {name} exists ({in_words(error)}).",
        "The key may not list (listBuckets, listFiles), or the bucket belongs to another account, "
        "or the key is limited to another bucket.",
        f"{ACCESS_SOLUTION} If the check put passes below, ignore this.",
    )


def _was_listed(context: DoctorContext) -> bool:
    return context.listing is not None and context.listing.ok
