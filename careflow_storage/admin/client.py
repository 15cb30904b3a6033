"""`StorageAdmin`: the bucket's settings, versions, keys and usage, as ``storage.admin``."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from careflow_storage._lazy import LazyModule
from careflow_storage.admin.buckets import BucketMethods
from careflow_storage.admin.copy import CopyMethods
from careflow_storage.admin.cors.methods import CorsMethods
from careflow_storage.admin.lifecycle import LifecycleMethods
from careflow_storage.admin.object_lock import ObjectLockMethods
from careflow_storage.admin.versions import VersionMethods

if TYPE_CHECKING:
    from careflow_storage.keys import ApplicationKeys
    from careflow_storage.usage import UsageReport, measurement
else:
    measurement = LazyModule("careflow_storage.usage.measurement")


class StorageAdmin(
    BucketMethods,
    CorsMethods,
    LifecycleMethods,
    VersionMethods,
    CopyMethods,
    ObjectLockMethods,
):
    """Buckets, CORS, lifecycle, versions, copies, object lock, application keys and usage.

    Available as ``storage.admin``. All methods work on the storage's own bucket unless they take
    a name. The application key needs more capabilities than a key that only moves recordings;
    each method names its own.
    """

    @cached_property
    def keys(self) -> ApplicationKeys:
        """The application keys of the account, by the native API. Needs the extra ``admin``.

        Signs in with the storage's own key, which must have listKeys, writeKeys, deleteKeys and
        listBuckets. To sign in with another key, such as the master key, create an
        `ApplicationKeys` yourself.

        Raises:
            NotConfiguredError: The settings have no key or no endpoint.
            InvalidInputError: The endpoint is neither Backblaze's nor on this machine.
        """
        from careflow_storage.keys import ApplicationKeys

        return ApplicationKeys.of_settings(self._settings)

    async def usage(
        self, prefix: str = "", *, top: int = 100, timeout: float | None = None
    ) -> UsageReport:
        """Count files, hidden versions and unfinished uploads, and the bytes of each.

        By folder, by call and by month. Reads the listing page by page, so memory does not grow
        with the number of files. 1 request per 1000 versions, and 1 per unfinished upload (all
        class C). Needs listFiles, and writeFiles for the bytes of unfinished uploads; without
        it the rest is counted, and ``notes`` say so.

        Args:
            prefix: Count only keys that begin with it; "" is the whole bucket.
            top: The number of folders and calls to name, those with the most bytes.
        """
        async with self._call("usage", (measurement,), timeout=timeout):
            return await measurement.measure(self._context(), prefix, top=top)
