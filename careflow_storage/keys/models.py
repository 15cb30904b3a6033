"""The results of calls about application keys."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import AwareDatetime, SecretStr

from careflow_storage.models import Model


class KeyInfo(Model):
    """An application key as in a listing, without its secret.

    ``bucket_names`` and ``bucket_ids`` are None if the key may use all buckets. A deleted bucket
    has an ID, but no name. ``prefix`` is None if the key may use all object keys.
    """

    key_id: str
    name: str
    capabilities: tuple[str, ...]
    bucket_names: tuple[str, ...] | None
    bucket_ids: tuple[str, ...] | None
    prefix: str | None
    expires_at: AwareDatetime | None

    @property
    def expired(self) -> bool:
        """Whether the key has expired, by the clock of this machine."""
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)


class CreatedKey(KeyInfo):
    """A new key with its secret, which B2 does not show again."""

    application_key: SecretStr


class RotationResult(Model):
    """The state of a rotation.

    Attributes:
        proved: Whether the new key was tried before its delivery. Always True: a failed trial
            raises.
        old_deleted: Whether the old key is deleted. Until then, everything it signed works.
        delete_old_after: When `finish_rotation` deletes the old key at the earliest; None is at
            any time.
        resumed: Whether an earlier run had delivered the new key already.
        deleted: The IDs of all keys that this run deleted.
        probe_left: The object key of the probe, if the new key may not erase files and only hid
            it.
    """

    old_key_id: str
    new_key_id: str
    proved: bool
    old_deleted: bool
    delete_old_after: AwareDatetime | None
    resumed: bool
    deleted: tuple[str, ...] = ()
    probe_left: str | None = None
