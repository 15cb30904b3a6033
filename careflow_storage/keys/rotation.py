"""Replace a key: create the new one, try it, deliver it, and delete the old ones.

The state is in the account itself, in the names of the keys (see `naming`), so a run that was
killed at any point can be repeated on any machine. Two rules keep it safe: the old key is
deleted last; and a key that may have been delivered is deleted only after a newer one was
delivered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from careflow_storage._log_fields import log_fields
from careflow_storage._uninterrupted import clean_up_to_end
from careflow_storage.errors import (
    AccessDeniedError,
    InvalidInputError,
    NoSuchApplicationKeyError,
    StorageError,
)
from careflow_storage.keys.b2_api import B2KeyClient
from careflow_storage.keys.models import CreatedKey, KeyInfo, RotationResult
from careflow_storage.keys.naming import (
    kept_until,
    replaced_id,
    replacement_name,
    successors,
    superseded,
)
from careflow_storage.keys.presets import KeyLimits
from careflow_storage.keys.probe import PROVABLE, Probe
from careflow_storage.keys.sinks import Sink
from careflow_storage.settings import StorageSettings

logger: logging.Logger = logging.getLogger("careflow_storage")

NEEDED = ("listKeys", "writeKeys", "deleteKeys")


@dataclass
class Rotation:
    """The rotation of one key.

    Args:
        native: A client with a key that may list, create and delete keys.
        sign_in_with: Makes such a client for another key.
        settings: The endpoint and bucket of the trial; None uses the endpoint that B2 reports.
        in_use: The keys that programs are known to use. A delivered key is added.
        created: The new key, once this run has delivered it.
    """

    native: B2KeyClient
    sign_in_with: Callable[[str, SecretStr], B2KeyClient]
    settings: StorageSettings | None
    in_use: set[str]
    key_id: str
    sink: Sink
    grace: timedelta | None
    lifetime: timedelta | None
    created: CreatedKey | None = None

    async def run(self) -> RotationResult:
        """Do all steps that are possible now."""
        there = await self.sink.prepare()
        await self._require_rights()
        keys = await self.native.list_keys()
        made = successors(self.key_id, keys)
        delivered = [key for key in made if self._is_delivered(key, there)]
        if delivered:
            return await self._finish(delivered[-1], keys, resumed=True, probe_left=None)
        old = self._old(keys, made)
        if there not in (None, old.key_id, *(key.key_id for key in made)):
            raise InvalidInputError(
                f"env_file holds the key {there}, neither the old one nor a new one.",
                hint="It may be the file of another program. If it is the right file, remove its "
                "BACKBLAZE_KEY_ID.",
            )
        if made:
            logger.warning(
                "%s was created to replace the key %s already, by an interrupted rotation; it will "
                "be deleted with that key",
                ", ".join(key.key_id for key in made),
                old.key_id,
                extra=log_fields("rotation_repeated", key_id=old.key_id),
            )
        settings = await self._trial_settings(old)
        created = await self._create(old)
        try:
            probe_left = await self._try(created, settings)
            await self.sink.deliver(created)
        except BaseException as error:
            if not self.sink.delivered:
                await clean_up_to_end(self._discard(created, error))
            raise
        finally:
            if self.sink.delivered:
                self.in_use.add(created.key_id)
                self.created = created
        logger.info(
            "the key %s replaces %s",
            created.key_id,
            old.key_id,
            extra=log_fields("key_replaced", key_id=created.key_id),
        )
        return await self._finish(created, keys, resumed=False, probe_left=probe_left)

    def _is_delivered(self, key: KeyInfo, there: str | None) -> bool:
        """Whether an earlier run has delivered the key: to the file, or to this process."""
        if self.sink.remembers:
            return key.key_id == there
        return key.key_id in self.in_use

    async def _require_rights(self) -> None:
        capabilities = (await self.native.sign_in()).capabilities
        missing = [each for each in NEEDED if each not in capabilities]
        if missing:
            raise AccessDeniedError(
                f"The key {self.native.key_id} may not rotate keys.",
                code="unauthorized",
                hint=f"The key that signs in needs {', '.join(missing)}, too.",
            )

    def _old(self, keys: list[KeyInfo], made: list[KeyInfo]) -> KeyInfo:
        for key in keys:
            if key.key_id == self.key_id:
                if key.expired:
                    raise NoSuchApplicationKeyError(
                        f"The key {key.key_id} expired on {key.expires_at}: it cannot be rotated.",
                        hint="Create a new one with create().",
                    )
                return key
        hint = "The master key cannot be rotated here, and B2 removes expired keys."
        if made:
            hint = f"It was replaced by {', '.join(key.key_id for key in made)}."
        raise NoSuchApplicationKeyError(f"There is no application key {self.key_id}.", hint=hint)

    # --- the new key --------------------------------------------------------------------

    async def _create(self, old: KeyInfo) -> CreatedKey:
        now = _now()
        lifetime = self.lifetime
        if lifetime is None and old.expires_at is not None:
            lifetime = old.expires_at - now
            if lifetime < timedelta(seconds=1):
                raise NoSuchApplicationKeyError(f"The key {old.key_id} expires right now.")
        until = now + self.grace if self.grace else None
        limits = KeyLimits(frozenset(old.capabilities), old.bucket_ids, old.prefix, lifetime)
        return await self.native.create_key(replacement_name(old, until), limits)

    async def _trial_settings(self, old: KeyInfo) -> StorageSettings | None:
        """Choose where to try the new key, before creating it."""
        if not PROVABLE & frozenset(old.capabilities):
            return None
        names, given = old.bucket_names, self.settings
        if names == ():
            raise InvalidInputError(
                f"The bucket of the key {old.key_id} does not exist any more: a new key "
                "cannot be tried.",
                hint="Delete the key.",
            )
        bucket = given.bucket_name if given is not None else None
        if names is not None and bucket not in names:
            bucket = names[0]
        if bucket is None:
            raise InvalidInputError(
                "settings: the key may use all buckets; name one to try the new key in."
            )
        if given is not None:
            return given.model_copy(update={"bucket_name": bucket})
        s3_url = (await self.native.sign_in()).s3_url
        return StorageSettings(
            _env_file=None,
            bucket_name=bucket,
            endpoint=s3_url,
            region=None,
            key_id=None,
            application_key=None,
        )

    async def _try(self, key: CreatedKey, settings: StorageSettings | None) -> str | None:
        if settings is None:
            await self.sign_in_with(key.key_id, key.application_key).sign_in()
            return None
        own = settings.model_copy(
            update={"key_id": key.key_id, "application_key": key.application_key}
        )
        name = f"{key.prefix or ''}careflow-key-check-{self.key_id}"
        return await Probe(own, key, name).run()

    async def _discard(self, key: CreatedKey, reason: BaseException) -> None:
        try:
            await self.native.delete_key(key.key_id)
        except StorageError as error:
            logger.error(
                "the new key %s is not used, and could not be deleted",
                key.key_id,
                extra=log_fields("key_left", error, key_id=key.key_id),
            )
            reason.add_note(
                f"The new key {key.key_id} could not be deleted ({error}); the next rotation will."
            )
        else:
            reason.add_note("The new key was deleted again; the old one is unchanged.")

    # --- the old keys -------------------------------------------------------------------

    async def _finish(
        self, new: KeyInfo, keys: list[KeyInfo], *, resumed: bool, probe_left: str | None
    ) -> RotationResult:
        after = kept_until(new)
        if self.grace == timedelta(0) or (after is not None and after <= _now()):
            # List again: after a lost response, b2sdk may have created the new key twice.
            keys = await self.native.list_keys()
            deleted = await delete_all(self.native, superseded(new, keys), new, self.sign_in_with)
            after = None
        else:
            # Keys that the old key itself had replaced.
            deleted = await delete_due(self.native, self.key_id, keys)
        present = {key.key_id for key in keys} - set(deleted)
        return RotationResult(
            old_key_id=self.key_id,
            new_key_id=new.key_id,
            proved=True,
            old_deleted=self.key_id not in present,
            delete_old_after=after,
            resumed=resumed,
            deleted=tuple(deleted),
            probe_left=probe_left,
        )


async def delete_due(native: B2KeyClient, key_id: str, keys: list[KeyInfo]) -> list[str]:
    """Delete the keys that ``key_id`` has replaced, if their time is set and over."""
    key = next((each for each in keys if each.key_id == key_id), None)
    until = None if key is None else kept_until(key)
    if key is None or until is None or until > _now():
        return []
    return await delete_all(native, superseded(key, keys), key, None)


async def delete_all(
    native: B2KeyClient,
    replaced: list[KeyInfo],
    new: KeyInfo,
    sign_in_with: Callable[[str, SecretStr], B2KeyClient] | None,
) -> list[str]:
    """Delete keys, the one that signs in last; return their IDs."""
    deleted = []
    for key in sorted(replaced, key=lambda each: each.key_id == native.key_id):
        by = native
        if (
            key.key_id == native.key_id
            and sign_in_with is not None
            and isinstance(new, CreatedKey)
            and "deleteKeys" in new.capabilities
        ):
            # A deleted key could not check whether its own deletion succeeded.
            by = sign_in_with(new.key_id, new.application_key)
        await _delete(by, key)
        logger.info(
            "deleted the key %s, which %s has replaced",
            key.key_id,
            new.key_id,
            extra=log_fields("key_deleted", key_id=key.key_id),
        )
        deleted.append(key.key_id)
    return deleted


async def _delete(native: B2KeyClient, key: KeyInfo) -> None:
    try:
        await native.delete_key(key.key_id)
    except NoSuchApplicationKeyError:
        # Deleted by another client, or by a request whose response was lost. B2 sends the same
        # refusal for other reasons, so check.
        if any(each.key_id == key.key_id for each in await native.list_keys()):
            raise


async def finish(native: B2KeyClient, key_id: str) -> tuple[KeyInfo, ...]:
    """Delete all keys that the key in use has replaced, if their grace is over."""
    keys = await native.list_keys()
    key, replaced = to_finish(key_id, keys)
    await delete_all(native, replaced, key, None)
    return tuple(replaced)


def to_finish(key_id: str, keys: list[KeyInfo]) -> tuple[KeyInfo, list[KeyInfo]]:
    """Return the key in use, and the keys that `finish` would delete now."""
    key = next((each for each in keys if each.key_id == key_id), None)
    if key is None:
        raise NoSuchApplicationKeyError(f"There is no application key {key_id}.")
    until = kept_until(key)
    if replaced_id(key) is None or (until is not None and until > _now()):
        return key, []
    return key, superseded(key, keys)


def _now() -> datetime:
    return datetime.now(UTC)
