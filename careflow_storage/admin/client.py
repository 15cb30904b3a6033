"""`StorageAdmin`: everything that a person does to the bucket itself, as ``storage.admin``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from careflow_storage._lazy import LazyModule
from careflow_storage._method_call import MethodCall
from careflow_storage._runtime import Runtime
from careflow_storage._transfer.context import TransferContext
from careflow_storage.admin.version_listing import VersionListing
from careflow_storage.recordings import existing_key, validate_key
from careflow_storage.settings import StorageSettings

if TYPE_CHECKING:
    from types import ModuleType

    from careflow_storage._s3.objects import S3Requests
    from careflow_storage.admin import (
        buckets,
        copy,
        cors,
        cors_check,
        lifecycle,
        object_lock,
        versions,
    )
    from careflow_storage.admin.buckets import BucketInfo
    from careflow_storage.admin.copy import CopyResult
    from careflow_storage.admin.cors import Preset
    from careflow_storage.admin.cors_models import CorsCheck, CorsMethod, CorsRule
    from careflow_storage.admin.lifecycle import LifecycleRule
    from careflow_storage.admin.object_lock import DefaultRetention, ObjectLock
    from careflow_storage.admin.versions import RestoreResult
    from careflow_storage.keys import ApplicationKeys
    from careflow_storage.models import DeleteResult, FileVersion, PurgeResult
    from careflow_storage.protection import Encryption, Retention
    from careflow_storage.usage import UsageReport, measurement
else:
    # Each is loaded by the first call that needs it, in a thread.
    buckets = LazyModule("careflow_storage.admin.buckets")
    copy = LazyModule("careflow_storage.admin.copy")
    cors = LazyModule("careflow_storage.admin.cors")
    lifecycle = LazyModule("careflow_storage.admin.lifecycle")
    object_lock = LazyModule("careflow_storage.admin.object_lock")
    measurement = LazyModule("careflow_storage.usage.measurement")
    cors_check = LazyModule("careflow_storage.admin.cors_check")
    versions = LazyModule("careflow_storage.admin.versions")


class StorageAdmin:
    """Buckets, CORS, lifecycle, versions, copies, object lock, application keys and usage.

    Got as ``storage.admin``; everything is about the storage's own bucket unless a name says
    otherwise. The application key needs more capabilities than one that only moves recordings:
    each method names its own.
    """

    def __init__(self, settings: StorageSettings, lifecycle: Runtime) -> None:
        self._settings = settings
        self._runtime = lifecycle

    # --- buckets ------------------------------------------------------------------------

    async def create_bucket(
        self,
        name: str | None = None,
        *,
        env: str | None = None,
        object_lock: bool = False,
        encryption: Literal["SSE-B2"] | None = "SSE-B2",
        timeout: float | None = None,
    ) -> BucketInfo:
        """Create a private bucket: the settings' own, one by ``name``, or that of an ``env``.

        Needs writeBuckets, and writeBucketEncryption for the encryption. 2 requests, or 1
        without encryption. The bucket is made in the endpoint's region.

        Args:
            env: An environment such as ``prod``: the bucket is ``careflow-recordings-prod``.
            object_lock: Whether files can be locked; it cannot be switched off later.
            encryption: What the server encrypts new files with, by default.

        Raises:
            InvalidInputError: The name cannot be one, or both ``name`` and ``env`` are given.
            BucketExistsError: The name is taken, perhaps by yourself (the hint tells). Nothing is
                changed then.
            StorageError: If the encryption was refused after the bucket had been made, the
                message says so: `set_bucket_encryption` with ``name`` finishes it.
        """
        async with self._call("create_bucket", buckets, timeout=timeout):
            return await buckets.create_bucket(
                self._context(), name, env=env, object_lock=object_lock, encryption=encryption
            )

    async def list_buckets(self, *, timeout: float | None = None) -> list[BucketInfo]:
        """List the buckets of the account. Needs listAllBucketNames. 1 request."""
        async with self._call("list_buckets", buckets, timeout=timeout):
            return await buckets.list_buckets(self._context())

    async def head_bucket(
        self, name: str | None = None, *, timeout: float | None = None
    ) -> BucketInfo:
        """Ask whether a bucket is there and may be used, and for its region.

        Needs listBuckets. 1 request, and another one where the first does not tell the region.

        Raises:
            NoSuchBucketError: There is none, or it lives in another region (status 301); the
                hint names the endpoint where the server tells it.
            AccessDeniedError: It is somebody else's, or the key may not see it. B2 also says so
                of a bucket in another region.
        """
        async with self._call("head_bucket", buckets, timeout=timeout):
            return await buckets.head_bucket(self._context(), name)

    async def delete_bucket(
        self, name: str | None = None, *, confirm: str, timeout: float | None = None
    ) -> None:
        """Delete an empty bucket. ``confirm`` must be its name.

        Needs deleteBuckets and listFiles. 3 requests: two that look whether it is empty, since
        some servers do not, and one that deletes.

        Raises:
            InvalidInputError: ``confirm`` is another name; nothing was asked.
            BucketNotEmptyError: It holds files, hidden versions or unfinished uploads.
        """
        async with self._call("delete_bucket", buckets, timeout=timeout):
            await buckets.delete_bucket(self._context(), name, confirm=confirm)

    async def get_bucket_encryption(
        self, *, name: str | None = None, timeout: float | None = None
    ) -> Literal["SSE-B2"] | None:
        """Return what new files are encrypted with by default, None if they are not.

        Needs readBucketEncryption. 1 request. ``name`` is another bucket than the storage's.

        Raises:
            NotSupportedError: It is something that B2 does not have, such as ``aws:kms``.
        """
        async with self._call("get_bucket_encryption", buckets, timeout=timeout):
            return await buckets.get_encryption(self._context(), name)

    async def set_bucket_encryption(
        self,
        encryption: Literal["SSE-B2"] | None,
        *,
        name: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Set what new files are encrypted with by default; files that are there stay as they are.

        Needs writeBucketEncryption. 1 request. ``name`` is another bucket than the storage's.
        B2 encrypts buckets made since 2026 by itself (its document "Server-Side Encryption").
        """
        async with self._call("set_bucket_encryption", buckets, timeout=timeout):
            await buckets.set_encryption(self._context(), encryption, name)

    # --- CORS ---------------------------------------------------------------------------

    async def get_cors_rules(self, *, timeout: float | None = None) -> list[CorsRule]:
        """Return the CORS rules of the bucket, in their order. Needs readBuckets. 1 request.

        Those of other tools are among them; one without an ID has the name "".
        """
        async with self._call("get_cors_rules", cors, timeout=timeout):
            return await cors.get_rules(self._context())

    async def set_cors_rules(
        self, rules: Iterable[CorsRule], *, timeout: float | None = None
    ) -> None:
        """Replace all CORS rules; with none, browsers of other origins are locked out.

        Needs writeBuckets. 1 request.

        Raises:
            InvalidInputError: B2 would refuse them; the message names the field, such as
                ``rules[2].allowed_origins[0]``. Nothing was sent.
        """
        async with self._call("set_cors_rules", cors, timeout=timeout):
            await cors.set_rules(self._context(), rules)

    async def put_cors_rule(
        self, rule: CorsRule, *, timeout: float | None = None
    ) -> list[CorsRule]:
        """Add a CORS rule, or replace the one of its name; all others stay as they are.

        Needs readBuckets and writeBuckets. 2 requests: S3 can only replace all rules, so of two
        calls in the same moment one may undo the other.

        Raises:
            InvalidInputError: B2 would refuse it; the message names the field. Or the bucket has
                100 rules already. Nothing was changed.
        """
        async with self._call("put_cors_rule", cors, timeout=timeout):
            return await cors.put_rule(self._context(), rule)

    async def remove_cors_rule(self, name: str, *, timeout: float | None = None) -> list[CorsRule]:
        """Take the CORS rule of this name away; return all others, which stay.

        Needs readBuckets and writeBuckets. 2 requests, or 1 if there is no such rule.
        """
        async with self._call("remove_cors_rule", cors, timeout=timeout):
            return await cors.remove_rule(self._context(), name)

    async def allow_browser_uploads(
        self,
        origins: str | Iterable[str],
        preset: Preset | None = None,
        *,
        methods: Collection[CorsMethod] | None = None,
        name: str = "careflow-browser-uploads",
        max_age_seconds: int = 3600,
        add: bool = False,
        timeout: float | None = None,
    ) -> list[CorsRule]:
        """Let web pages of these origins upload to and play from presigned URLs.

        With a ``preset``, or ``add=True``, the origins are let in beside those that are in
        already: what other origins may do and read stays as it is, and an origin that may do all
        of it already changes nothing (1 request then, else 2). An origin gets a rule of its own
        where the rule of this name gives something else.

        Without either, the one rule of this name is set: it replaces what an earlier call had
        set, and origins that are not named again are locked out. Rules of other names stay.
        2 requests. Of two calls in the same moment one may undo the other.

        Args:
            origins: Such as ``https://app.example`` or ``http://localhost:3000``: scheme, host
                and port, no path. ``*`` for all, and ``https://*.example`` for subdomains.
            preset: ``put`` for pages that put files or parts by presigned URLs (GET, HEAD, PUT);
                ``multipart`` for pages that also begin, complete and abort uploads in parts
                themselves (and POST, DELETE). Both let pages read the ETag.
            methods: In the place of a preset; GET, HEAD and PUT unless given. B2 has no uploads
                by forms (501).
            name: Of the rule. Less than 1,000 bytes of text fit into one.
            add: Only add, as with a preset.

        Raises:
            InvalidInputError: An origin cannot be one; the message names it, and what may be
                meant. Nothing was sent. Or the bucket has 100 rules already; nothing was changed.
        """
        async with self._call("allow_browser_uploads", cors, timeout=timeout):
            rule = cors.browser_upload_rule(
                origins,
                methods=cors.methods_of(preset, methods),
                name=name,
                max_age_seconds=max_age_seconds,
            )
            if add or preset is not None:
                return await cors.add_rule(self._context(), rule)
            return await cors.put_rule(self._context(), rule)

    async def check_cors(
        self,
        origin: str,
        method: CorsMethod = "PUT",
        headers: Iterable[str] = ("content-type",),
        *,
        key: str | None = None,
        timeout: float | None = None,
    ) -> CorsCheck:
        """Find out whether, and by which rule, a browser of ``origin`` may do ``method``.

        Reads the rules, and sends the preflight request that a browser would send. 2 requests.
        The result tells both, and what to change if it is refused. Needs readBuckets.

        Args:
            headers: That the page sends with its request, but for those that browsers add.
            key: To ask about; a made-up one by default, since rules are the bucket's.
        """
        async with self._call("check_cors", cors_check, timeout=timeout):
            return await cors_check.check(self._context(), origin, method, headers, key=key)

    # --- lifecycle ----------------------------------------------------------------------

    async def get_lifecycle_rules(self, *, timeout: float | None = None) -> list[LifecycleRule]:
        """Return the lifecycle rules of the bucket, one for each prefix. 1 request.

        Needs readBucketLifecycleRules. What other S3 servers know and B2 does not is told in
        ``unsupported``.
        """
        async with self._call("get_lifecycle_rules", lifecycle, timeout=timeout):
            return await lifecycle.get_rules(self._context())

    async def set_lifecycle_rules(
        self, rules: Iterable[LifecycleRule], *, timeout: float | None = None
    ) -> None:
        """Replace all lifecycle rules; with none, everything is kept (and billed) for ever.

        Needs writeBucketLifecycleRules. 1 request. B2 applies them about once a day.

        Raises:
            InvalidInputError: B2 would refuse them; the message names the field, such as
                ``rules[2].hide_after_days``. Nothing was sent.
        """
        async with self._call("set_lifecycle_rules", lifecycle, timeout=timeout):
            await lifecycle.set_rules(self._context(), rules)

    async def put_lifecycle_rule(
        self, rule: LifecycleRule, *, timeout: float | None = None
    ) -> list[LifecycleRule]:
        """Add a lifecycle rule, or replace the one of its prefix; others stay as they are.

        Needs readBucketLifecycleRules and writeBucketLifecycleRules. 2 requests.

        Raises:
            InvalidInputError: B2 would refuse it; the message names the field.
            NotSupportedError: The prefix has rules that B2 does not know, which would be lost.
                Nothing was changed.
        """
        async with self._call("put_lifecycle_rule", lifecycle, timeout=timeout):
            return await lifecycle.put_rule(self._context(), rule)

    async def remove_lifecycle_rule(
        self, prefix: str, *, timeout: float | None = None
    ) -> list[LifecycleRule]:
        """Take the lifecycle rule of this prefix away; return the others, which stay.

        Needs readBucketLifecycleRules and writeBucketLifecycleRules. 2 requests, or 1 if there
        is no such rule.

        Raises:
            NotSupportedError: The prefix has rules that B2 does not know. Nothing was changed.
        """
        async with self._call("remove_lifecycle_rule", lifecycle, timeout=timeout):
            return await lifecycle.remove_rule(self._context(), prefix)

    async def expire_recordings(
        self,
        *,
        hide_after_days: int | None = None,
        erase_after_days: int | None = None,
        cancel_unfinished_after_days: int | None = 7,
        prefix: str = "recordings/",
        timeout: float | None = None,
    ) -> list[LifecycleRule]:
        """Set how long recordings are kept; rules of other prefixes stay. 2 requests.

        All of the prefix's rule is set: what is not given now is never done any more.
        As `put_lifecycle_rule`.

        Args:
            hide_after_days: Days from upload until a recording is hidden; None for never.
            erase_after_days: Days from being hidden (or deleted, or overwritten) until its
                bytes are erased for ever; None for never.
            cancel_unfinished_after_days: Days until an unfinished upload is given up.
        """
        async with self._call("expire_recordings", lifecycle, timeout=timeout):
            rule = lifecycle.recordings_rule(
                hide_after_days=hide_after_days,
                erase_after_days=erase_after_days,
                cancel_unfinished_after_days=cancel_unfinished_after_days,
                prefix=prefix,
            )
            return await lifecycle.put_rule(self._context(), rule)

    # --- versions and copies ------------------------------------------------------------

    def list_file_versions(
        self, prefix: str = "", max_versions: int | None = None, *, timeout: float | None = None
    ) -> VersionListing:
        """List all versions and delete markers: await it, or iterate over it.

        By key, and within a key the newest first. Needs listFiles. 1 request per 1000.
        """

        def requests() -> S3Requests:
            with self._call("list_file_versions"):
                return self._context().requests

        with self._call("list_file_versions"):
            return VersionListing(requests, prefix, max_versions, timeout)

    async def delete_file_version(
        self,
        key: str,
        version_id: str,
        *,
        bypass_governance: bool = False,
        timeout: float | None = None,
    ) -> DeleteResult:
        """Erase one version, or take one delete marker away, for ever. 2 requests.

        A listing of the key's versions comes first, 1 request per 1000: S3 calls it a success to
        erase a version that was never there, and a mistyped ID would pass for an erasure. Who
        can do without that has `BackblazeStorage.delete_file` with ``version_id``, 1 request.

        Needs listFiles and deleteFiles, and bypassGovernance to erase what governance locks.

        Args:
            version_id: As listings tell it; "null" for what has none.
            bypass_governance: Erase it though it is locked by governance.

        Raises:
            NoSuchKeyError: There is no such version.
            FileLockedError: Object lock keeps it; the message says until when.
            AccessDeniedError: It may be locked, or the key lacks deleteFiles: nobody can tell.
        """
        async with self._call("delete_file_version", versions, key, timeout):
            return await versions.delete_version(
                self._context(), existing_key(key), version_id, bypass_governance=bypass_governance
            )

    async def delete_file_versions(
        self,
        targets: Iterable[FileVersion | tuple[str, str]],
        *,
        bypass_governance: bool = False,
        timeout: float | None = None,
    ) -> list[DeleteResult]:
        """Erase many versions, 1000 per request; one result for each, in their order.

        What could not be erased has ``deleted=False`` and the server's reason (AccessDenied for
        what is locked): look at the results, this method raises only when a whole request fails.
        A version that is not there counts as erased, as S3 has it.

        Args:
            targets: From `list_file_versions`, or pairs of a key and a version ID.
        """
        async with self._call("delete_file_versions", versions, timeout=timeout):
            return await versions.delete_versions(
                self._context(), targets, bypass_governance=bypass_governance
            )

    async def restore_file(
        self,
        key: str,
        version_id: str | None = None,
        *,
        encryption: Encryption | None = None,
        timeout: float | None = None,
    ) -> RestoreResult:
        """Bring a file back: un-hide it, or put an old version on top.

        Without ``version_id`` the delete markers above the newest version are taken away. With
        it that version is copied on top of all others (server side), unless it only was hidden.
        Restoring what can be seen already changes nothing. The versions are read again after
        each change, so that what others do meanwhile is seen.

        1 request per 1000 versions if it was there, 3 to un-hide, and to copy those of
        `copy_file` more. Needs listFiles and deleteFiles; to copy, readFiles and writeFiles.

        Args:
            encryption: The customer's key of a version that is copied, if it has one; the copy
                is encrypted with it, too.

        Raises:
            NoSuchKeyError: It has no version (or not this one) to go back to.
        """
        async with self._call("restore_file", versions, key, timeout):
            return await versions.restore(
                self._context(), existing_key(key), version_id, encryption=encryption
            )

    async def purge_file(
        self, key: str, *, confirm: str, timeout: float | None = None
    ) -> PurgeResult:
        """Erase every version of a file and its unfinished uploads, for ever.

        As ``storage.purge_file``, for interfaces where a person must say it twice: ``confirm``
        must be the key.

        Raises:
            InvalidInputError: ``confirm`` is another key; nothing was asked.
            FileLockedError: Object lock keeps a version; all others are gone.
            StorageError: A version could not be erased for another reason; others are gone.
        """
        async with self._call("purge_file", versions, key, timeout):
            return await versions.purge(self._context(), existing_key(key), confirm=confirm)

    async def purge_files(
        self,
        prefix: str,
        *,
        confirm: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> PurgeResult:
        """Erase every version of all files below a prefix, and their unfinished uploads.

        For ever. A prefix is no folder: ``calls/1`` is also that of ``calls/10/a.webm``. Nobody
        should store below it meanwhile: what comes behind the listing stays.

        2 requests per 1000 versions and 1 per unfinished upload; the memory stays the same for
        any number. Needs listFiles, writeFiles and deleteFiles. Safe to run again.

        Args:
            confirm: Must be the prefix, unless ``dry_run``. "" purges the whole bucket and
                must be confirmed by the name of the bucket.
            dry_run: Only count.

        Raises:
            InvalidInputError: ``confirm`` is not what it must be; nothing was asked.
            FileLockedError: Object lock keeps versions: the message says how many, and until
                when the first of them. All others are gone.
            StorageError: Versions could not be erased for another reason; others are gone.
        """
        async with self._call("purge_files", versions, timeout=timeout):
            return await versions.purge_all(
                self._context(), prefix, confirm=confirm, dry_run=dry_run
            )

    async def copy_file(
        self,
        source: str,
        target: str,
        *,
        version_id: str | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        overwrite: bool = True,
        source_encryption: Encryption | None = None,
        encryption: Encryption | None = None,
        timeout: float | None = None,
    ) -> CopyResult:
        """Copy a file within the bucket, on the server: no byte of it comes here.

        What a copy is not given anew it takes from the source: content type, metadata,
        Cache-Control, Content-Disposition, Content-Encoding, Content-Language, Expires, and the
        mark of a recording that was cut off. A retention or legal hold stays with the source.

        The copy is of one version, whatever is stored under the source's key meanwhile, and it
        is verified: by the ETag, or else by a HEAD of its size. A copy of a version onto its own
        key puts it on top; onto itself it must change something.

        2 requests up to 5 GB, and 1 more where the ETag is no proof; beyond that 1 per GiB more.
        Needs readFiles and writeFiles. If it is cancelled the copy may still appear.

        Args:
            version_id: An older version; the newest one when None.
            metadata: Takes the place of all of the source's own metadata.
            overwrite: As for ``upload_file``: on B2 False looks first, and does not see who
                stores the key in between.
            source_encryption: The customer's key of the source, if it has one.
            encryption: What the copy is encrypted with; the bucket's default when None.

        Raises:
            NoSuchKeyError: The source, or that version of it, is not there.
            PreconditionFailedError: The target is there and must not be overwritten; or, where
                there are no versions, the source was overwritten meanwhile.
            SizeMismatchError, ChecksumMismatchError: The copy is not what was copied.
        """
        async with self._call("copy_file", copy, source, timeout):
            return await copy.copy_file(
                self._context(),
                existing_key(source),
                validate_key(target),
                version_id=version_id,
                content_type=content_type,
                metadata=metadata,
                overwrite=overwrite,
                source_encryption=source_encryption,
                encryption=encryption,
            )

    async def move_file(
        self,
        source: str,
        target: str,
        *,
        overwrite: bool = True,
        encryption: Encryption | None = None,
        timeout: float | None = None,
    ) -> CopyResult:
        """Copy a file within the bucket, then hide the source. 4 requests up to 5 GB.

        As `copy_file`. The source's versions stay until a lifecycle rule or a purge erases them.
        It is hidden only if it is still the version that was copied; what is stored in the
        moment between looking and hiding gets hidden, too, and `restore_file` brings it back.

        Args:
            encryption: The customer's key of the source, if it has one; the copy is encrypted
                with it, too.

        Raises:
            PreconditionFailedError: The target is there and must not be overwritten; or the
                source was overwritten meanwhile: then the copy exists, and nothing was hidden.
            StorageError: The source could not be hidden; the hint says that the copy exists.
        """
        async with self._call("move_file", copy, source, timeout):
            return await copy.move_file(
                self._context(),
                existing_key(source),
                validate_key(target),
                overwrite=overwrite,
                encryption=encryption,
            )

    # --- object lock --------------------------------------------------------------------

    async def get_object_lock(self, *, timeout: float | None = None) -> ObjectLock:
        """Return whether the bucket can lock files, and how long by default.

        Needs readBucketRetentions. 1 request.
        """
        async with self._call("get_object_lock", object_lock, timeout=timeout):
            return await object_lock.get_object_lock(self._context())

    async def set_object_lock(
        self, default: DefaultRetention | None = None, *, timeout: float | None = None
    ) -> None:
        """Let the bucket lock files (for ever: B2 cannot undo it), and set the default.

        Needs writeBucketRetentions. 1 request.
        """
        async with self._call("set_object_lock", object_lock, timeout=timeout):
            await object_lock.set_object_lock(self._context(), default)

    async def get_retention(
        self, key: str, *, version_id: str | None = None, timeout: float | None = None
    ) -> Retention | None:
        """Return until when a version is kept, None if it is not. Needs readFileRetentions."""
        async with self._call("get_retention", object_lock, key, timeout):
            return await object_lock.get_retention(self._context(), existing_key(key), version_id)

    async def set_retention(
        self,
        key: str,
        retention: Retention | None,
        *,
        version_id: str | None = None,
        bypass_governance: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Keep a version from being erased until a time. Needs writeFileRetentions.

        ``compliance`` can only be made longer, by nobody shortened; ``governance`` can be
        shortened or taken away (None) with ``bypass_governance`` and its capability.

        Raises:
            InvalidInputError: The time is past, or the bucket cannot lock files.
        """
        async with self._call("set_retention", object_lock, key, timeout):
            await object_lock.set_retention(
                self._context(),
                existing_key(key),
                retention,
                version_id,
                bypass_governance=bypass_governance,
            )

    async def get_legal_hold(
        self, key: str, *, version_id: str | None = None, timeout: float | None = None
    ) -> bool:
        """Return whether a version is under legal hold. Needs readFileLegalHolds."""
        async with self._call("get_legal_hold", object_lock, key, timeout):
            return await object_lock.get_legal_hold(self._context(), existing_key(key), version_id)

    async def set_legal_hold(
        self,
        key: str,
        on: bool,
        *,
        version_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Keep a version from being erased until the hold is taken off. Needs writeFileLegalHolds.

        Raises:
            InvalidInputError: The bucket cannot lock files.
        """
        async with self._call("set_legal_hold", object_lock, key, timeout):
            await object_lock.set_legal_hold(self._context(), existing_key(key), on, version_id)

    # --- keys and usage -----------------------------------------------------------------

    @cached_property
    def keys(self) -> ApplicationKeys:
        """The application keys of the account, by the native API. The extra ``admin``.

        It signs in with the storage's own key, which must have listKeys, writeKeys, deleteKeys
        and listBuckets. For another one (the master key, say) make an `ApplicationKeys` yourself.

        Raises:
            NotConfiguredError: The settings have no key or no endpoint.
            InvalidInputError: The endpoint is neither Backblaze's nor on this machine.
        """
        from careflow_storage.keys import ApplicationKeys

        return ApplicationKeys.of_settings(self._settings)

    async def usage(
        self, prefix: str = "", *, top: int = 100, timeout: float | None = None
    ) -> UsageReport:
        """Count what is stored: files, hidden versions, unfinished uploads; bytes of each.

        By folder, by call and by month. Streams the listing: memory stays the same for any
        number of files. 1 request per 1000 versions, and 1 per unfinished upload (all class C).
        Needs listFiles, and writeFiles for the bytes of unfinished uploads: without it the rest
        is counted, and ``notes`` say so.

        Args:
            prefix: With what keys begin; "" for the whole bucket.
            top: How many folders and calls to name, those with the most bytes.
        """
        async with self._call("usage", measurement, timeout=timeout):
            return await measurement.measure(self._context(), prefix, top=top)

    def _context(self) -> TransferContext:
        return self._runtime.context()

    def _call(
        self,
        method: str,
        part: ModuleType | None = None,
        key: str | None = None,
        timeout: float | None = None,
    ) -> MethodCall:
        """The context of one method, which needs ``part``."""
        name = part.__name__ if part is not None else None
        bucket = self._settings.bucket_name
        return _PartCall(name, self._runtime, method, bucket, key, timeout)


class _PartCall(MethodCall):
    """A call that loads its module first, off the event loop."""

    __slots__ = ("_part", "_runtime")

    def __init__(
        self,
        part: str | None,
        lifecycle: Runtime,
        method: str,
        bucket: str | None,
        key: str | None,
        timeout: float | None,
    ) -> None:
        super().__init__(method, bucket, key, timeout, lifecycle.in_flight)
        self._part = part
        self._runtime = lifecycle

    async def __aenter__(self) -> None:
        await super().__aenter__()
        if self._part is None:
            return
        try:
            await self._runtime.context().threads.load(self._part)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
