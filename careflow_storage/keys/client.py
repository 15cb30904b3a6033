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
    from careflow_storage.keys.b2_api import NativeApi
    from careflow_storage.keys.models import CreatedKey, KeyInfo, RotationResult
    from careflow_storage.keys.presets import Preset
    from careflow_storage.keys.sinks import Deliver
else:
    # The first call loads them, in a thread; ``storage.admin.keys`` is got on the event loop.
    sinks = LazyModule("careflow_storage.keys.sinks")
    b2_api = LazyModule("careflow_storage.keys.b2_api")
    presets = LazyModule("careflow_storage.keys.presets")
    rotation = LazyModule(_ROTATION)


class ApplicationKeys:
    """The application keys of an account, by B2's native API.

    It signs in when first used. Nothing is written to disk (b2sdk's own tools keep keys in
    ``~/.b2_account_info``). Safe for concurrent tasks, of several event loops too; the calls of
    one object wait for each other.

    Args:
        key_id: Of a key with listKeys, writeKeys, deleteKeys and listBuckets; the master key
            has them. A key with writeKeys can make a key for everything: it is as good as the
            master key (docs/cloud-storage-application-key-capabilities).
        application_key: The key itself.
        realm: The native API, ``production`` or a URL.
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
            # What is refused keeps this frame, and error trackers record what it holds.
            del application_key
        self._realm = _checked_text("realm", realm)
        self._settings: StorageSettings | None = None
        self._signs_in = (_checked_text("key_id", key_id), secret)
        self._in_use = {key_id}

    @classmethod
    def of_settings(cls, settings: StorageSettings) -> Self:
        """Sign in with the key of these settings.

        Raises:
            NotConfiguredError: They have no key or no endpoint.
            InvalidInputError: The endpoint is neither Backblaze's nor on this machine
                (`careflow_storage.testing.B2Server`): others have no native API.
        """
        if settings.key_id is None or settings.application_key is None or not settings.endpoint:
            raise NotConfiguredError(settings.missing_variables())
        if settings.is_b2:
            realm = "production"
        elif is_loopback(host_of(settings.endpoint)):
            realm = settings.endpoint
        else:
            raise InvalidInputError(
                "Application keys need B2's native API, which exists on Backblaze only: "
                f"{settings.endpoint} has none.",
                hint="For another realm make ApplicationKeys(key_id, application_key, realm=...).",
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
        """Make a key. The response holds the secret, which B2 tells this one time.

        2 requests, and 1 to sign in the first time. Cancelled, it leaves no key behind.

        Args:
            name: 1 to 100 letters, digits and hyphens. B2 lets several keys have the same one.
            capabilities: One of `PRESETS`, or B2's names, such as ``["readFiles"]``.
            bucket: The only bucket that it may use, by name; None: all, also future ones.
            prefix: With what the keys of all objects must begin that it may use, such as
                ``recordings/``. Needs ``bucket``.
            expires_in: How long it lives: 1 second to less than 1000 days; None: for ever.

        Raises:
            InvalidInputError: One of these cannot be. Nothing was asked.
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

        1 request per 1000 keys; and 1, with listBuckets, if some are limited to buckets whose
        names are not known yet.
        """
        with MethodCall("list", None):
            await _load()
            return await self._native.list_keys()

    async def delete(self, key_id: str) -> KeyInfo:
        """Delete a key, at once and for ever. Needs deleteKeys. 1 request.

        What it signed is refused from then on: URLs that were presigned with it, too.

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
        """Replace a key by a new one of the same limits, and deliver the new one.

        The new key is made, tried over the S3 API with what it may do, and delivered; if any of
        this fails, it is deleted and the old one stays as it is. Only then the old one may be
        deleted. Interrupted at any point, the same call goes on: a new key that was delivered
        (the file, or whoever runs this, has it) is kept, one that was not is superseded by the
        next, and goes when the old one goes.

        7 to 14 requests. B2 may need some seconds until it knows the new key everywhere; it is
        waited for.

        Args:
            key_id: The old key. It may be the one that is signed in with.
            settings: For the trial: endpoint, timeouts, and the bucket if the key is not
                limited to one. By default those of `of_settings`, or what B2 tells.
            env_file: Where to write BACKBLAZE_KEY_ID and BACKBLAZE_APPLICATION_KEY. Other lines
                stay; the file is replaced at once and readable to its owner only.
            deliver: Or whom to give the new key, sync (in a thread) or async. When it raises,
                the new key is deleted.
            grace: How long the old key stays. Zero: it is deleted at the end of this call. More:
                `finish_rotation` or the next rotation deletes it after that time. None: only
                `finish_rotation` does. The call that made the new key decides, but that zero
                always deletes.
            expires_in: How long the new key lives. None: as long as the old one, for ever or
                until the same moment.

        Raises:
            InvalidInputError: An argument is wrong, or the file cannot be written or is another
                key's. Nothing was done.
            NoSuchApplicationKeyError: There is no such key (any more), or it has expired.
            AccessDeniedError: The key that signs in lacks listKeys, writeKeys or deleteKeys; or
                the new key may not do what its capabilities say.
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
                # It has deleted its own key; the new one may do the same.
                self._signs_in = (work.created.key_id, work.created.application_key)
                self._native = self._signed_in_with(*self._signs_in)
            return result

    async def finish_rotation(self, key_id: str) -> tuple[KeyInfo, ...]:
        """Delete what this key has replaced, once its grace is over; return what was deleted.

        Nothing the second time, and nothing for a key that has replaced none: safe to call
        every day. 1 request, and 1 for each key that is deleted.

        Args:
            key_id: The new key, which is in use now.

        Raises:
            NoSuchApplicationKeyError: There is no such key.
        """
        with MethodCall("finish_rotation", None):
            await _load()
            return await rotation.finish(self._native, _checked_text("key_id", key_id))

    @cached_property
    def _native(self) -> NativeApi:
        return self._signed_in_with(*self._signs_in)

    def _signed_in_with(self, key_id: str, application_key: SecretStr) -> NativeApi:
        return b2_api.NativeApi(key_id, application_key, self._realm)


async def _load() -> None:
    """Load what every call needs, off the event loop."""
    if not is_loaded(_ROTATION):
        await asyncio.to_thread(import_module, _ROTATION)


def _checked_text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        # What stands in place of a secret may be one.
        shown = "" if name == "application_key" else f", not {value!r}"
        del value
        raise InvalidInputError(f"{name} must be a text{shown}.")
    return value
