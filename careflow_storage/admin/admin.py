"""`StorageAdmin`: everything that a person does to the bucket itself, as ``storage.admin``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from careflow_storage.admin import buckets, copies, cors, lifecycle_rules, lock, usage, versions
from careflow_storage.calls import Call
from careflow_storage.lifecycle import Lifecycle
from careflow_storage.recordings import validate_key
from careflow_storage.settings import StorageSettings
from careflow_storage.transfer.engine import Engine

if TYPE_CHECKING:
    from careflow_storage.admin.buckets import BucketInfo
    from careflow_storage.admin.copies import CopyResult
    from careflow_storage.admin.cors import CorsCheck, CorsMethod, CorsRule
    from careflow_storage.admin.keys import ApplicationKeys
    from careflow_storage.admin.lifecycle_rules import LifecycleRule
    from careflow_storage.admin.lock import DefaultRetention, ObjectLock
    from careflow_storage.admin.usage import UsageReport
    from careflow_storage.admin.versions import FileVersion, RestoreResult, VersionListing
    from careflow_storage.models import DeleteResult, PurgeResult
    from careflow_storage.protection import Encryption, Retention


class StorageAdmin:
    """Buckets, CORS, lifecycle, versions, copies, object lock, application keys and usage.

    Got as ``storage.admin``; everything is about the storage's own bucket unless a name says
    otherwise. The application key needs more capabilities than one that only moves recordings:
    each method names its own.
    """

    def __init__(self, settings: StorageSettings, lifecycle: Lifecycle) -> None:
        self._settings = settings
        self._lifecycle = lifecycle

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

        Args:
            env: An environment such as ``prod``: the bucket is ``careflow-recordings-prod``.
            object_lock: Whether files can be locked; it cannot be switched off later.
            encryption: What the server encrypts new files with, by default.

        Raises:
            InvalidInputError: The name cannot be one, or both ``name`` and ``env`` are given.
            BucketExistsError: The name is taken. Nothing is changed then.
        """
        async with self._call("create_bucket", timeout=timeout):
            return await buckets.create_bucket(
                self._engine(), name, env=env, object_lock=object_lock, encryption=encryption
            )

    async def list_buckets(self, *, timeout: float | None = None) -> list[BucketInfo]:
        """List the buckets of the account. Needs listAllBucketNames. 1 request."""
        async with self._call("list_buckets", timeout=timeout):
            return await buckets.list_buckets(self._engine())

    async def head_bucket(
        self, name: str | None = None, *, timeout: float | None = None
    ) -> BucketInfo:
        """Ask whether a bucket is there and may be used, and for its region. 1 request."""
        async with self._call("head_bucket", timeout=timeout):
            return await buckets.head_bucket(self._engine(), name)

    async def delete_bucket(
        self, name: str | None = None, *, confirm: str, timeout: float | None = None
    ) -> None:
        """Delete an empty bucket. ``confirm`` must be its name.

        Raises:
            InvalidInputError: ``confirm`` is another name; nothing was asked.
            BucketNotEmptyError: It holds files, hidden versions or unfinished uploads.
        """
        async with self._call("delete_bucket", timeout=timeout):
            await buckets.delete_bucket(self._engine(), name, confirm=confirm)

    async def get_bucket_encryption(
        self, *, timeout: float | None = None
    ) -> Literal["SSE-B2"] | None:
        """Return what new files are encrypted with by default. Needs readBucketEncryption."""
        async with self._call("get_bucket_encryption", timeout=timeout):
            return await buckets.get_encryption(self._engine())

    async def set_bucket_encryption(
        self, encryption: Literal["SSE-B2"] | None, *, timeout: float | None = None
    ) -> None:
        """Set what new files are encrypted with by default; files that are there stay as they are.

        Needs writeBucketEncryption. 1 request.
        """
        async with self._call("set_bucket_encryption", timeout=timeout):
            await buckets.set_encryption(self._engine(), encryption)

    # --- CORS ---------------------------------------------------------------------------

    async def get_cors_rules(self, *, timeout: float | None = None) -> list[CorsRule]:
        """Return the CORS rules of the bucket, none if there are none. Needs readBuckets."""
        async with self._call("get_cors_rules", timeout=timeout):
            return await cors.get_rules(self._engine())

    async def set_cors_rules(
        self, rules: Iterable[CorsRule], *, timeout: float | None = None
    ) -> None:
        """Replace all CORS rules; with none, browsers of other origins are locked out.

        Needs writeBuckets. Checked against B2's limits before anything is sent.
        """
        async with self._call("set_cors_rules", timeout=timeout):
            await cors.set_rules(self._engine(), rules)

    async def put_cors_rule(
        self, rule: CorsRule, *, timeout: float | None = None
    ) -> list[CorsRule]:
        """Add a CORS rule, or replace the one of its name; all others stay. 2 requests."""
        async with self._call("put_cors_rule", timeout=timeout):
            return await cors.put_rule(self._engine(), rule)

    async def remove_cors_rule(self, name: str, *, timeout: float | None = None) -> list[CorsRule]:
        """Take the CORS rule of this name away; all others stay. 2 requests."""
        async with self._call("remove_cors_rule", timeout=timeout):
            return await cors.remove_rule(self._engine(), name)

    async def allow_browser_uploads(
        self,
        origins: str | Iterable[str],
        *,
        methods: Collection[CorsMethod] = ("GET", "HEAD", "PUT"),
        name: str = "careflow-browser-uploads",
        max_age_seconds: int = 3600,
        timeout: float | None = None,
    ) -> list[CorsRule]:
        """Let web pages of these origins upload to and play from presigned URLs. 2 requests.

        The rule of the guide, under a name of its own; other rules stay. Called again, it
        replaces what it had set before.

        Args:
            origins: Such as ``https://app.example`` or ``http://localhost:3000``: scheme, host
                and port, no path. ``*`` for all, and ``https://*.example`` for subdomains.
        """
        async with self._call("allow_browser_uploads", timeout=timeout):
            rule = cors.browser_upload_rule(
                origins, methods=methods, name=name, max_age_seconds=max_age_seconds
            )
            return await cors.put_rule(self._engine(), rule)

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
        The result tells both, and what to change if it is refused.
        """
        async with self._call("check_cors", timeout=timeout):
            return await cors.check(self._engine(), origin, method, headers, key=key)

    # --- lifecycle ----------------------------------------------------------------------

    async def get_lifecycle_rules(self, *, timeout: float | None = None) -> list[LifecycleRule]:
        """Return the lifecycle rules of the bucket, by prefix. Needs readBucketLifecycleRules."""
        async with self._call("get_lifecycle_rules", timeout=timeout):
            return await lifecycle_rules.get_rules(self._engine())

    async def set_lifecycle_rules(
        self, rules: Iterable[LifecycleRule], *, timeout: float | None = None
    ) -> None:
        """Replace all lifecycle rules; with none, everything is kept (and billed) for ever.

        Needs writeBucketLifecycleRules. B2 applies them about once a day.
        """
        async with self._call("set_lifecycle_rules", timeout=timeout):
            await lifecycle_rules.set_rules(self._engine(), rules)

    async def put_lifecycle_rule(
        self, rule: LifecycleRule, *, timeout: float | None = None
    ) -> list[LifecycleRule]:
        """Add a lifecycle rule, or replace the one of its prefix; others stay. 2 requests."""
        async with self._call("put_lifecycle_rule", timeout=timeout):
            return await lifecycle_rules.put_rule(self._engine(), rule)

    async def remove_lifecycle_rule(
        self, prefix: str, *, timeout: float | None = None
    ) -> list[LifecycleRule]:
        """Take the lifecycle rule of this prefix away; others stay. 2 requests."""
        async with self._call("remove_lifecycle_rule", timeout=timeout):
            return await lifecycle_rules.remove_rule(self._engine(), prefix)

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

        Args:
            hide_after_days: Days from upload until a recording is hidden; None for never.
            erase_after_days: Days from being hidden (or deleted, or overwritten) until its
                bytes are erased for ever; None for never.
            cancel_unfinished_after_days: Days until an unfinished upload is given up.
        """
        async with self._call("expire_recordings", timeout=timeout):
            rule = lifecycle_rules.recordings_rule(
                hide_after_days=hide_after_days,
                erase_after_days=erase_after_days,
                cancel_unfinished_after_days=cancel_unfinished_after_days,
                prefix=prefix,
            )
            return await lifecycle_rules.put_rule(self._engine(), rule)

    # --- versions and copies ------------------------------------------------------------

    def list_file_versions(
        self, prefix: str = "", max_versions: int | None = None, *, timeout: float | None = None
    ) -> VersionListing:
        """List all versions and delete markers: await it, or iterate over it.

        By key, and within a key the newest first. Needs listFiles. 1 request per 1000.
        """
        with self._call("list_file_versions"):
            return versions.VersionListing(
                lambda: self._engine().requests, prefix, max_versions, timeout
            )

    async def delete_file_version(
        self,
        key: str,
        version_id: str,
        *,
        bypass_governance: bool = False,
        timeout: float | None = None,
    ) -> DeleteResult:
        """Erase one version, or take one delete marker away, for ever. 1 request.

        Needs deleteFiles, and bypassGovernance to erase what is locked by governance.

        Raises:
            NoSuchKeyError: There is no such version.
            FileLockedError: Object lock keeps it; the message says until when.
        """
        async with self._call("delete_file_version", key, timeout):
            return await versions.delete_version(
                self._engine(), validate_key(key), version_id, bypass_governance=bypass_governance
            )

    async def delete_file_versions(
        self,
        targets: Iterable[FileVersion | tuple[str, str]],
        *,
        bypass_governance: bool = False,
        timeout: float | None = None,
    ) -> list[DeleteResult]:
        """Erase many versions, 1000 per request; one result for each, in their order.

        What could not be erased has ``deleted=False`` and the server's reason.
        """
        async with self._call("delete_file_versions", timeout=timeout):
            return await versions.delete_versions(
                self._engine(), targets, bypass_governance=bypass_governance
            )

    async def restore_file(
        self, key: str, version_id: str | None = None, *, timeout: float | None = None
    ) -> RestoreResult:
        """Bring a file back: un-hide it, or put an old version on top.

        Without ``version_id`` the delete markers above the newest version are taken away. With
        it that version is copied on top of all others (server side), unless it only was hidden.
        Restoring what can be seen already changes nothing.

        Raises:
            NoSuchKeyError: It has no version (or not this one) to go back to.
        """
        async with self._call("restore_file", key, timeout):
            return await versions.restore(self._engine(), validate_key(key), version_id)

    async def purge_file(
        self, key: str, *, confirm: str, timeout: float | None = None
    ) -> PurgeResult:
        """Erase every version of a file and its unfinished uploads, for ever.

        As ``storage.purge_file``, for interfaces where a person must say it twice: ``confirm``
        must be the key.
        """
        async with self._call("purge_file", key, timeout):
            return await versions.purge(self._engine(), validate_key(key), confirm=confirm)

    async def purge_files(
        self,
        prefix: str,
        *,
        confirm: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> PurgeResult:
        """Erase every version of all files below a prefix, and their unfinished uploads.

        Args:
            confirm: Must be the prefix, unless ``dry_run``. "" purges the whole bucket and
                must be confirmed by the name of the bucket.
            dry_run: Only count.
        """
        async with self._call("purge_files", timeout=timeout):
            return await versions.purge_all(
                self._engine(), prefix, confirm=confirm, dry_run=dry_run
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

        2 requests up to 5 GB, beyond that 1 per GiB more. What a copy is not given anew it
        takes from the source: content type, metadata, Cache-Control, Content-Disposition. A
        copy of a version onto its own key puts it on top.

        Args:
            overwrite: As for ``upload_file``.
            source_encryption: The customer's key of the source, if it has one.
            encryption: What the copy is encrypted with; the bucket's default when None.
        """
        async with self._call("copy_file", source, timeout):
            return await copies.copy_file(
                self._engine(),
                validate_key(source),
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
        timeout: float | None = None,
    ) -> CopyResult:
        """Copy a file within the bucket, then hide the source. 3 requests.

        The source's versions stay until a lifecycle rule or a purge erases them. It is hidden
        only if it is still the version that was copied.
        """
        async with self._call("move_file", source, timeout):
            return await copies.move_file(
                self._engine(), validate_key(source), validate_key(target), overwrite=overwrite
            )

    # --- object lock --------------------------------------------------------------------

    async def get_object_lock(self, *, timeout: float | None = None) -> ObjectLock:
        """Return whether the bucket can lock files, and how long by default.

        Needs readBucketRetentions. 1 request.
        """
        async with self._call("get_object_lock", timeout=timeout):
            return await lock.get_object_lock(self._engine())

    async def set_object_lock(
        self, default: DefaultRetention | None = None, *, timeout: float | None = None
    ) -> None:
        """Let the bucket lock files (for ever: B2 cannot undo it), and set the default.

        Needs writeBucketRetentions. 1 request.
        """
        async with self._call("set_object_lock", timeout=timeout):
            await lock.set_object_lock(self._engine(), default)

    async def get_retention(
        self, key: str, *, version_id: str | None = None, timeout: float | None = None
    ) -> Retention | None:
        """Return until when a version is kept, None if it is not. Needs readFileRetentions."""
        async with self._call("get_retention", key, timeout):
            return await lock.get_retention(self._engine(), validate_key(key), version_id)

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
        async with self._call("set_retention", key, timeout):
            await lock.set_retention(
                self._engine(),
                validate_key(key),
                retention,
                version_id,
                bypass_governance=bypass_governance,
            )

    async def get_legal_hold(
        self, key: str, *, version_id: str | None = None, timeout: float | None = None
    ) -> bool:
        """Return whether a version is under legal hold. Needs readFileLegalHolds."""
        async with self._call("get_legal_hold", key, timeout):
            return await lock.get_legal_hold(self._engine(), validate_key(key), version_id)

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
        async with self._call("set_legal_hold", key, timeout):
            await lock.set_legal_hold(self._engine(), validate_key(key), on, version_id)

    # --- keys and usage -----------------------------------------------------------------

    @cached_property
    def keys(self) -> ApplicationKeys:
        """The application keys of the account, by the native API. The extra ``admin``.

        It signs in with the storage's own key, which must have listKeys, writeKeys and
        deleteKeys. For another one (the master key, say) make an `ApplicationKeys` yourself.
        """
        from careflow_storage.admin.keys import ApplicationKeys

        return ApplicationKeys.of_settings(self._settings)

    async def usage(self, prefix: str = "", *, timeout: float | None = None) -> UsageReport:
        """Count what is stored: files, hidden versions, unfinished uploads; bytes of each.

        By folder, by call and by month. Streams the listing: memory stays the same for any
        number of files. 1 request per 1000 versions, and 1 per unfinished upload.
        """
        async with self._call("usage", timeout=timeout):
            return await usage.measure(self._engine(), prefix)

    def _engine(self) -> Engine:
        return self._lifecycle.engine()

    def _call(self, operation: str, key: str | None = None, timeout: float | None = None) -> Call:
        return Call(operation, self._settings.bucket_name, key, timeout)
