"""`ApplicationKeys`: the keys of an account."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import SecretStr

from careflow_storage._endpoint import host_of, is_loopback
from careflow_storage._lazy import LazyModule, is_loaded
from careflow_storage._method_call import MethodCall
from careflow_storage.errors import InvalidInputError, NotConfiguredError
from careflow_storage.settings import StorageSettings

_ROTATION = "careflow_storage.keys.rotation"

if TYPE_CHECKING:
    from careflow_storage.keys import b2_api, presets, rotation, sinks
    from careflow_storage.keys.b2_api import B2KeyClient
    from careflow_storage.keys.models import CreatedKey, KeyInfo, RotationResult
    from careflow_storage.keys.presets import Preset
    from careflow_storage.keys.sinks import Deliver
else:
    # The first call imports them in a thread; ``storage.admin.keys`` runs on the event loop.
    sinks = LazyModule("careflow_storage.keys.sinks")
    b2_api = LazyModule("careflow_storage.keys.b2_api")
    presets = LazyModule("careflow_storage.keys.presets")
    rotation = LazyModule(_ROTATION)


class ApplicationKeys:
    """The application keys of an account, by B2's native API.

    Signs in on first use. Writes nothing to disk (b2sdk's own tools keep keys in
    ``~/.b2_account_info``). Safe for concurrent tasks, even in several event loops; the calls of
    one object run one after another.

    Args:
        key_id: A key with listKeys, writeKeys, deleteKeys and listBuckets, as the master key
            has. A key with writeKeys can create a key with all capabilities, so it is as
            powerful as the master key (docs/cloud-storage-application-key-capabilities).
        application_key: The secret of that key.
        realm: The native API: ``production`` or a URL.
    """

    def __init__(
        self, key_id: str, application_key: str | SecretStr, *, realm: str = "production"
    ) -> None:
        try:
            if isinstance(application_key, SecretStr):
                secret = application_key
            else:
                secret = SecretStr(_checked_text("application_key", application_key))
        finally:
            # A traceback keeps this frame, and error trackers record its variables.
            del application_key
        self._realm = _checked_text("realm", realm)
        self._settings: StorageSettings | None = None
        self._signs_in = (_checked_text("key_id", key_id), secret)
        self._in_use = {key_id}

    @classmethod
    def of_settings(cls, settings: StorageSettings) -> Self:
        """Sign in with the key of these settings.

        Raises:
            NotConfiguredError: The settings have no key or no endpoint.
            InvalidInputError: The endpoint is neither Backblaze's nor on this machine
                (`careflow_storage.testing.B2Server`). Other servers have no native API.
        """
        if settings.key_id is None or settings.application_key is None or not settings.endpoint:
            raise NotConfiguredError(settings.missing_variables())
        if settings.is_b2:
            realm = "production"
        elif is_loopback(host_of(settings.endpoint)):
            realm = settings.endpoint
        else:
            raise InvalidInputError(
                "Application keys need B2's native API, which only Backblaze has: "
                f"{settings.endpoint} does not.",
                hint="For another realm use ApplicationKeys(key_id, application_key, realm=...).",
            )
        keys = cls(settings.key_id, settings.application_key, realm=realm)
        keys._settings = settings
        return keys

    def __repr__(self) -> str:
        return f"ApplicationKeys({self._signs_in[0]!r}, realm={self._realm!r})"

    async def create(
        self,
        name: str,
        capabilities: Preset | Iterable[str],
        *,
        bucket: str | None = None,
        prefix: str | None = None,
        expires_in: timedelta | None = None,
    ) -> CreatedKey:
        """Create a key. Only this result holds the secret: B2 does not show it again.

        2 requests, and 1 to sign in the first time. If cancelled, leaves no key behind.

        Args:
            name: 1 to 100 letters, digits and hyphens. Several keys can have the same name.
            capabilities: One of `PRESETS`, or B2's names, such as ``["readFiles"]``.
            bucket: The name of the only bucket that the key may use; None is all buckets,
                including future ones.
            prefix: The key may only use objects whose keys begin with it, such as
                ``recordings/``. Needs ``bucket``.
            expires_in: The lifetime, from 1 second to less than 1000 days; None is unlimited.

        Raises:
            InvalidInputError: An argument is not valid. No request was sent.
            NoSuchBucketError: The account has no such bucket.
            AccessDeniedError: The key that signs in lacks writeKeys or listBuckets.
        """
        with MethodCall("create", bucket):
            await _load()
            presets.checked_name(name)
            wanted = presets.checked_capabilities(capabilities)
            prefix = presets.checked_key_prefix(prefix, bucket)
            lifetime = presets.checked_lifetime(expires_in)
            if bucket is not None:
                _checked_text("bucket", bucket)
            ids = None if bucket is None else (await self._native.bucket_id(bucket),)
            limits = presets.KeyLimits(wanted, ids, prefix, lifetime)
            return await self._native.create_key(name, limits)

    async def list(self) -> list[KeyInfo]:
        """List all keys of the account but the master key. Needs listKeys.

        1 request per 1000 keys. A second one, which needs listBuckets, if keys are limited to
        buckets whose names are not known yet.
        """
        with MethodCall("list", None):
            await _load()
            return await self._native.list_keys()

    async def delete(self, key_id: str) -> KeyInfo:
        """Delete a key immediately and permanently. Needs deleteKeys. 1 request.

        B2 then refuses everything that the key signed, including presigned URLs.

        Raises:
            NoSuchApplicationKeyError: There is no such key.
        """
        with MethodCall("delete", None):
            await _load()
            return await self._native.delete_key(_checked_text("key_id", key_id))

    async def rotate(
        self,
        key_id: str,
        *,
        settings: StorageSettings | None = None,
        env_file: Path | str | None = None,
        deliver: Deliver | None = None,
        grace: timedelta | None = None,
        expires_in: timedelta | None = None,
    ) -> RotationResult:
        """Replace a key by a new one with the same limits, and deliver the new one.

        Creates the new key, tries its capabilities over the S3 API, and delivers it. If one of
        these steps fails, the new key is deleted and the old one stays. The old key is deleted
        only after the delivery. After an interruption, the same call continues: a new key that
        was delivered (to the file, or to this process) is kept. A new key that was not
        delivered is replaced by another one, and deleted with the old key.

        7 to 14 requests. B2 may need some seconds to make the new key known everywhere; this
        method waits for it.

        Args:
            key_id: The old key. It may be the key that signs in.
            settings: The endpoint, timeouts and bucket to try the new key with. The bucket
                counts if the key is not limited to one. By default those of `of_settings`, or
                the endpoint that B2 reports.
            env_file: The file to write BACKBLAZE_KEY_ID and BACKBLAZE_APPLICATION_KEY to. Other
                lines stay. The file is replaced atomically, and only its owner can read it.
            deliver: A function that receives the new key instead, sync (in a thread) or async.
                If it raises, the new key is deleted.
            grace: How long to keep the old key. With zero, this call deletes it. With a longer
                time, `finish_rotation` or the next rotation deletes it afterwards. With None,
                only `finish_rotation` does. The call that created the new key decides; zero
                always deletes.
            expires_in: The lifetime of the new key. None is that of the old key: unlimited, or
                the same expiry.

        Raises:
            InvalidInputError: An argument is wrong, or the file cannot be written or holds
                another key. Nothing was changed.
            NoSuchApplicationKeyError: There is no such key, or it has expired.
            AccessDeniedError: The key that signs in lacks listKeys, writeKeys or deleteKeys; or
                the new key lacks one of its capabilities.
        """
        with MethodCall("rotate", None):
            await _load()
            if settings is not None and settings.key_id is not None:
                self._in_use.add(settings.key_id)
            work = rotation.Rotation(
                native=self._native,
                sign_in_with=self._signed_in_with,
                settings=settings or self._settings,
                in_use=self._in_use,
                key_id=_checked_text("key_id", key_id),
                sink=sinks.chosen(env_file, deliver),
                grace=presets.checked_grace(grace),
                lifetime=presets.checked_lifetime(expires_in),
            )
            result = await work.run()
            if work.created is not None and self._native.key_id in result.deleted:
                # The call has deleted the key that it signed in with: use the new one.
                self._signs_in = (work.created.key_id, work.created.application_key)
                self._native = self._signed_in_with(*self._signs_in)
            return result

    async def finish_rotation(self, key_id: str) -> tuple[KeyInfo, ...]:
        """Delete the keys that this key has replaced, if their grace is over. Return them.

        Does nothing if there are none, so it is safe to call every day. 1 request, and 1 for
        each key that is deleted.

        Args:
            key_id: The new key, which is in use.

        Raises:
            NoSuchApplicationKeyError: There is no such key.
        """
        with MethodCall("finish_rotation", None):
            await _load()
            return await rotation.finish(self._native, _checked_text("key_id", key_id))

    @cached_property
    def _native(self) -> B2KeyClient:
        return self._signed_in_with(*self._signs_in)

    def _signed_in_with(self, key_id: str, application_key: SecretStr) -> B2KeyClient:
        return b2_api.B2KeyClient(key_id, application_key, self._realm)


async def _load() -> None:
    """Import the modules that every call needs, in a thread."""
    if not is_loaded(_ROTATION):
        await asyncio.to_thread(import_module, _ROTATION)


def _checked_text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        # A wrong value may be a secret, too.
        shown = "" if name == "application_key" else f", not {value!r}"
        del value
        raise InvalidInputError(f"{name} must be a non-empty str{shown}.")
    return value
