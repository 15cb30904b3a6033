"""One key in the place of another: make, prove, deliver, and delete what nobody needs then.

What state there is lies in the account itself, in the keys' names (see `lineage`), so that a
run that was killed at any point can be run again, anywhere. Two rules keep it safe: the old key
is deleted last; and a key that may have been delivered is deleted only after a newer one was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from careflow_storage._uninterrupted import clean_up_to_end
from careflow_storage.errors import (
    AccessDeniedError,
    InvalidInputError,
    NoSuchApplicationKeyError,
    StorageError,
)
from careflow_storage.keys.b2_api import NativeApi
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
        native: Signed in with a key that may list, make and delete keys.
        sign_in_with: Makes another one like it, for another key.
        settings: For the proof, with the endpoint and the bucket; None: B2 tells the endpoint.
        in_use: Keys that programs are known to run with; those that are delivered join them.
        created: The new key, once it is delivered by this run.
    """

    native: NativeApi
    sign_in_with: Callable[[str, SecretStr], NativeApi]
    settings: StorageSettings | None
    in_use: set[str]
    key_id: str
    sink: Sink
    grace: timedelta | None
    lifetime: timedelta | None
    created: CreatedKey | None = None

    async def run(self) -> RotationResult:
        """Go as far as it may go now."""
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
                hint="It may be the file of another program. Take its BACKBLAZE_KEY_ID out of it, "
                "if it is the right one.",
            )
        if made:
            logger.warning(
                "%s was to replace the key %s already; it is taken for the key of an interrupted "
                "rotation, and goes when that one goes",
                ", ".join(key.key_id for key in made),
                old.key_id,
            )
        settings = await self._settings_of_proof(old)
        created = await self._create(old)
        try:
            probe_left = await self._prove(created, settings)
            await self.sink.deliver(created)
        except BaseException as error:
            if not self.sink.delivered:
                await clean_up_to_end(self._discard(created, error))
            raise
        finally:
            if self.sink.delivered:
                self.in_use.add(created.key_id)
                self.created = created
        logger.info("the key %s replaces %s", created.key_id, old.key_id)
        return await self._finish(created, keys, resumed=False, probe_left=probe_left)

    def _is_delivered(self, key: KeyInfo, there: str | None) -> bool:
        """Whether an earlier run came this far: the file tells, else whoever runs with it."""
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
                        f"The key {key.key_id} has expired on {key.expires_at}: there is nothing "
                        "to rotate.",
                        hint="Make a new one by create().",
                    )
                return key
        hint = "The master key cannot be rotated here; and B2 forgets keys that have expired."
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
                raise NoSuchApplicationKeyError(f"The key {old.key_id} is just expiring.")
        until = now + self.grace if self.grace else None
        limits = KeyLimits(frozenset(old.capabilities), old.bucket_ids, old.prefix, lifetime)
        return await self.native.create_key(replacement_name(old, until), limits)

    async def _settings_of_proof(self, old: KeyInfo) -> StorageSettings | None:
        """Find out where the new key will be tried, before there is one."""
        if not PROVABLE & frozenset(old.capabilities):
            return None
        names, given = old.bucket_names, self.settings
        if names == ():
            raise InvalidInputError(
                f"The bucket of the key {old.key_id} does not exist any more: no key to it can "
                "be tried.",
                hint="Delete the key.",
            )
        bucket = given.bucket_name if given is not None else None
        if names is not None and bucket not in names:
            bucket = names[0]
        if bucket is None:
            raise InvalidInputError(
                "settings: the key may use all buckets; name one in which the new one is tried."
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

    async def _prove(self, key: CreatedKey, settings: StorageSettings | None) -> str | None:
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
            logger.error("the new key %s is useless and could not be deleted", key.key_id)
            reason.add_note(
                f"The new key {key.key_id} could not be deleted ({error}); another rotation does."
            )
        else:
            reason.add_note("The new key was deleted again; the old one is as it was.")

    # --- the old keys -------------------------------------------------------------------

    async def _finish(
        self, new: KeyInfo, keys: list[KeyInfo], *, resumed: bool, probe_left: str | None
    ) -> RotationResult:
        after = kept_until(new)
        if self.grace == timedelta(0) or (after is not None and after <= _now()):
            # Anew: when a response was lost, b2sdk may have made the new key twice.
            keys = await self.native.list_keys()
            deleted = await delete_all(self.native, superseded(new, keys), new, self.sign_in_with)
            after = None
        else:
            # What the old key had replaced in its time.
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


async def delete_due(native: NativeApi, key_id: str, keys: list[KeyInfo]) -> list[str]:
    """Delete what the key ``key_id`` has replaced, if a time was set for it and is past."""
    key = next((each for each in keys if each.key_id == key_id), None)
    until = None if key is None else kept_until(key)
    if key is None or until is None or until > _now():
        return []
    return await delete_all(native, superseded(key, keys), key, None)


async def delete_all(
    native: NativeApi,
    useless: list[KeyInfo],
    new: KeyInfo,
    sign_in_with: Callable[[str, SecretStr], NativeApi] | None,
) -> list[str]:
    """Delete keys, the one that is signed in with last; return their IDs."""
    deleted = []
    for key in sorted(useless, key=lambda each: each.key_id == native.key_id):
        by = native
        if (
            key.key_id == native.key_id
            and sign_in_with is not None
            and isinstance(new, CreatedKey)
            and "deleteKeys" in new.capabilities
        ):
            # It could not be asked again whether its own deletion succeeded.
            by = sign_in_with(new.key_id, new.application_key)
        await _delete(by, key)
        logger.info("deleted the key %s, which %s has replaced", key.key_id, new.key_id)
        deleted.append(key.key_id)
    return deleted


async def _delete(native: NativeApi, key: KeyInfo) -> None:
    try:
        await native.delete_key(key.key_id)
    except NoSuchApplicationKeyError:
        # Deleted by somebody else, or by a request whose response was lost; B2's refusal does not
        # tell this from others.
        if any(each.key_id == key.key_id for each in await native.list_keys()):
            raise


async def finish(native: NativeApi, key_id: str) -> tuple[KeyInfo, ...]:
    """Delete all that the key in use has replaced, if its grace is over."""
    keys = await native.list_keys()
    key, useless = to_finish(key_id, keys)
    await delete_all(native, useless, key, None)
    return tuple(useless)


def to_finish(key_id: str, keys: list[KeyInfo]) -> tuple[KeyInfo, list[KeyInfo]]:
    """Return the key in use, and what `finish` deletes now."""
    key = next((each for each in keys if each.key_id == key_id), None)
    if key is None:
        raise NoSuchApplicationKeyError(f"There is no application key {key_id}.")
    until = kept_until(key)
    if replaced_id(key) is None or (until is not None and until > _now()):
        return key, []
    return key, superseded(key, keys)


def _now() -> datetime:
    return datetime.now(UTC)
