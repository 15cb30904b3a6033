"""Check how the bucket is configured. Changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from careflow_storage._counted import counted
from careflow_storage._s3.boto.pages import upload_page
from careflow_storage._s3.redaction import printable
from careflow_storage.admin.cors import check as cors_check
from careflow_storage.admin.lifecycle_rules import from_s3
from careflow_storage.admin.models import CorsCheck, CorsMethod, LifecycleRule
from careflow_storage.doctor.advice import command
from careflow_storage.doctor.context import DoctorContext
from careflow_storage.doctor.explain import in_words, outcome_of
from careflow_storage.doctor.models import Outcome, passed, skipped, warned
from careflow_storage.errors import (
    AccessDeniedError,
    CapExceededError,
    NoSuchConfigurationError,
    NotSupportedError,
    StorageError,
)
from careflow_storage.models import IncompleteUpload

# The method of the client, and the capability that it needs on B2.
_READS = {
    "CORS rules": ("get_bucket_cors", "readBuckets"),
    "lifecycle rules": ("get_bucket_lifecycle_configuration", "readBucketLifecycleRules"),
    "access list": ("get_bucket_acl", "readBuckets"),
    "encryption": ("get_bucket_encryption", "readBucketEncryption"),
    "versioning": ("get_bucket_versioning", "listBuckets"),
    "object lock": ("get_object_lock_configuration", "readBucketRetentions"),
}
_RECORDINGS = "recordings/"
_STALE = timedelta(days=1)
_MEASURED_UPLOADS = 20
_PUBLIC = "AllUsers"
_UNFINISHED = "AbortIncompleteMultipartUpload"


async def configuration(context: DoctorContext) -> Outcome:
    """Read the whole configuration of the bucket; later checks judge it."""
    transfer = await context.transfer()
    denied: list[str] = []
    for name, (method, capability) in _READS.items():
        try:
            context.configuration[name] = await transfer.control.call(method, None, {}, dict)
        except NoSuchConfigurationError:
            context.configuration[name] = {}
        except CapExceededError:
            raise
        except StorageError as error:
            context.unread[name] = error
            if isinstance(error, AccessDeniedError):
                denied.append(f"{name} ({capability})")
    if denied:
        return warned(
            f"The key may not read: {', '.join(denied)}.",
            "It lacks the capabilities in brackets. A key that only moves recordings needs none "
            "of them.",
            "To check these too, run the doctor with the key that administers the bucket.",
        )
    return passed("The bucket's configuration can be read")


async def cors(context: DoctorContext) -> list[Outcome] | Outcome:
    """Send the preflights of a browser of the origin: one to upload and one to play."""
    if context.origin is None:
        return _cors_rules(context)
    transfer = await context.transfer()
    outcomes: list[Outcome] = []
    asked: tuple[tuple[CorsMethod, tuple[str, ...]], ...] = (
        ("PUT", ("content-type",)),
        ("GET", ()),
    )
    for method, headers in asked:
        try:
            check = await cors_check.check(transfer, context.origin, method, headers, key=None)
        except NotSupportedError as error:
            return outcome_of(error)
        outcomes.append(_cors_outcome(context.origin, method, check))
    return outcomes


def _cors_outcome(origin: str, method: str, check: CorsCheck) -> Outcome:
    name = f"cors {method}"
    problems = " ".join(check.problems)
    if check.allowed and not problems:
        rule = f" (rule {check.rule.name})" if check.rule is not None else ""
        return Outcome("pass", f"A page of {origin} may {method}{rule}", check=name)
    solution = (
        "Add the domain to the CORS rules, check allowed methods and origins: "
        f"{command('cors', 'allow', origin, '--add')}, or "
        f'storage.admin.allow_browser_uploads(["{origin}"], add=True). Other origins keep '
        "their rights. Browsers cache a refusal for a while."
    )
    if check.allowed:
        return Outcome("warn", f"A page of {origin} may {method}", problems, solution, name)
    return Outcome(
        "fail",
        f"A page of {origin} may not {method}: the browser blocks it.",
        problems or "No CORS rule of the bucket allows it.",
        solution,
        name,
    )


def _cors_rules(context: DoctorContext) -> Outcome:
    unread = _unread(context, "CORS rules")
    if unread is not None:
        return unread
    rules = context.configuration["CORS rules"].get("CORSRules", [])
    if not rules:
        return passed("No CORS rules: web pages cannot reach the bucket (--origin checks one)")
    origins = sorted({origin for rule in rules for origin in rule.get("AllowedOrigins", ())})
    shown = printable(", ".join(origins[:5]), 200) + (" …" if len(origins) > 5 else "")
    return passed(f"{counted(len(rules), 'CORS rule')}, for {shown} (--origin checks one)")


async def lifecycle(context: DoctorContext) -> Outcome:
    """Without a rule everything is kept, and billed, permanently."""
    unread = _unread(context, "lifecycle rules")
    if unread is not None:
        return unread
    rules = context.configuration["lifecycle rules"].get("Rules", [])
    active = [rule for rule in rules if rule.get("Status", "Enabled") == "Enabled"]
    if not active:
        return warned(
            "There is no lifecycle rule.",
            "Deleted and overwritten recordings are only hidden: B2 keeps and bills all versions "
            "without end, and the parts of unfinished uploads, too.",
            f"Set one: {command('lifecycle', 'expire', '--erase-after', '30d')} (it asks first), "
            "or await storage.admin.expire_recordings(erase_after_days=30, "
            "cancel_unfinished_after_days=7). Deleted recordings can be restored "
            "for these 30 days.",
        )
    if not any(_UNFINISHED in rule for rule in active):
        return warned(
            f"{counted(len(active), 'lifecycle rule')}, none of which cancels unfinished uploads.",
            "B2 keeps and bills the parts of unfinished uploads without end.",
            _cancelling(active),
        )
    return passed(counted(len(active), "lifecycle rule"))


def _cancelling(active: list[dict[str, Any]]) -> str:
    """Advise how to cancel unfinished uploads; the call repeats what the rule does already."""
    rules = {rule.prefix: rule for rule in from_s3(active)}
    rule = rules.get(_RECORDINGS) or rules.get("") or LifecycleRule(prefix=_RECORDINGS)
    if rule.unsupported:
        return (
            f"The prefix {rule.prefix!r} has rules that B2 does not support: add one that cancels "
            "with the S3 client of `await storage.client()`."
        )
    days = {
        "hide_after": rule.hide_after_days,
        "erase_after": rule.erase_after_days,
        "cancel_unfinished_after": 7,
    }
    options = [
        word
        for name, count in days.items()
        if count is not None
        for word in (f"--{name.replace('_', '-')}", f"{count}d")
    ]
    values = "".join(f", {name}_days={count}" for name, count in days.items() if count is not None)
    return (
        f"{command('lifecycle', 'expire', '--prefix', rule.prefix, *options)}, or await "
        f"storage.admin.expire_recordings(prefix={rule.prefix!r}{values}): what the prefix's rule "
        "does already is kept."
    )


async def stale_uploads(context: DoctorContext) -> Outcome:
    """Find uploads that began over a day ago and never finished, among the first 1000."""
    transfer = await context.transfer()
    try:
        page = await transfer.control.call(
            "list_multipart_uploads",
            None,
            {"Prefix": ""},
            lambda response: upload_page(response, ""),
        )
    except CapExceededError:
        raise
    except AccessDeniedError as error:
        return skipped(f"The key may not list the unfinished uploads ({in_words(error)}).")
    now = page.server_time or datetime.now(UTC)
    stale = [each for each in page.uploads if now - each.initiated > _STALE]
    if not stale:
        return passed(f"No stale uploads ({len(page.uploads)} in progress)")
    more = "at least " if len(page.uploads) >= 1000 or len(stale) > _MEASURED_UPLOADS else ""
    size = await _stored(context, stale[:_MEASURED_UPLOADS])
    return warned(
        f"{counted(len(stale), 'upload')} began more than a day ago and never finished: "
        f"{more}{counted(size, 'byte')}.",
        "They crashed or were abandoned. Their parts are stored and billed.",
        "They may be calls worth keeping: `careflow-storage uploads list` lists them, and "
        "`careflow-storage uploads keep KEY UPLOAD_ID` makes a recording of the stored parts. "
        "`careflow-storage uploads abort --older-than 1d --dry-run` shows what the same command "
        "without --dry-run erases permanently.",
    )


async def _stored(context: DoctorContext, uploads: list[IncompleteUpload]) -> int:
    transfer = await context.transfer()
    total = 0
    for upload in uploads:
        try:
            parts = await transfer.multipart.list_parts(upload.key, upload.upload_id)
        except StorageError:
            # Finished meanwhile, or not readable: the sum is a lower bound anyway.
            continue
        total += sum(part.size for part in parts)
    return total


async def public(context: DoctorContext) -> Outcome:
    """Check that the bucket is private."""
    unread = _unread(context, "access list")
    if unread is not None:
        return unread
    grants = context.configuration["access list"].get("Grants", [])
    if not any(_PUBLIC in grant.get("Grantee", {}).get("URI", "") for grant in grants):
        return passed("The bucket is private")
    return warned(
        "The bucket is public: anyone who guesses a URL can read the recording.",
        "Its type is Public in the console (ACL public-read).",
        "Set it to Private on the console's page Buckets. Presigned URLs keep working.",
    )


async def encryption(context: DoctorContext) -> Outcome:
    """Check that new files are encrypted at rest."""
    unread = _unread(context, "encryption")
    if unread is not None:
        return unread
    settings = context.configuration["encryption"]
    rules = settings.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
    if rules:
        return passed("New files are encrypted by default (SSE)")
    return warned(
        "New files are not encrypted at rest.",
        "Default encryption is off, as it was in new buckets before 2026.",
        "Enable it, at no cost: `careflow-storage buckets encryption SSE-B2`, or await "
        'storage.admin.set_bucket_encryption("SSE-B2").',
    )


async def versioning(context: DoctorContext) -> Outcome:
    """Check that the bucket keeps versions, as B2's always do."""
    unread = _unread(context, "versioning")
    if unread is not None:
        return unread
    status = context.configuration["versioning"].get("Status")
    if status == "Enabled":
        return passed("Versions are kept")
    return warned(
        "No versions are kept.",
        "The bucket is not versioned. B2's always are.",
        "On another server enable versioning: without it, overwriting and deleting are permanent.",
    )


async def object_lock(context: DoctorContext) -> Outcome:
    """Report object lock; without it the check passes, too."""
    unread = _unread(context, "object lock")
    if unread is not None:
        return unread
    response = context.configuration["object lock"].get("ObjectLockConfiguration", {})
    if response.get("ObjectLockEnabled") != "Enabled":
        return passed("Object lock is off")
    words = retention_in_words(response)
    if words is None:
        return passed("Object lock is on, without a default retention")
    return passed(f"Object lock is on: {words} by default")


def retention_in_words(response: dict[str, Any]) -> str | None:
    """Describe the default retention, such as "compliance, 30 days"; None if there is none."""
    default = response.get("Rule", {}).get("DefaultRetention", {})
    if not default:
        return None
    span = (
        counted(int(default["Days"]), "day")
        if "Days" in default
        else counted(int(default.get("Years", 0)), "year")
    )
    return f"{str(default.get('Mode', '')).lower()}, {span}"


def _unread(context: DoctorContext, name: str) -> Outcome | None:
    error = context.unread.get(name)
    if isinstance(error, NotSupportedError):
        return skipped("This server does not support it.")
    if isinstance(error, AccessDeniedError):
        return skipped("The key may not read it.")
    return None if error is None else outcome_of(error)
