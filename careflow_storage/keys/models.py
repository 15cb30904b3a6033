"""What the calls about application keys give."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import AwareDatetime, SecretStr

from careflow_storage.models import Model


class KeyInfo(Model):
    """An application key as the account lists it; nobody can list its secret.

    ``bucket_names`` and ``bucket_ids`` are None for a key that may use all buckets. A bucket
    that was deleted since has an ID there and no name. ``prefix`` None: all object keys.
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
        """Whether its time is over, by this machine's clock."""
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)


class CreatedKey(KeyInfo):
    """A new key with its secret, which is told this one time."""

    application_key: SecretStr


class RotationResult(Model):
    """How far a rotation is.

    Attributes:
        proved: The new key was tried before it was delivered. Always so: what fails the proof
            raises.
        old_deleted: False while the old key is kept; what was signed with it works till then.
        delete_old_after: From when on `finish_rotation` deletes it; None: whenever it is called.
        resumed: An earlier run had delivered the new key already.
        deleted: The IDs of all keys that this run deleted.
        probe_left: The object key of the probe, if it could only be hidden: the new key may not
            erase files.
    """

    old_key_id: str
    new_key_id: str
    proved: bool
    old_deleted: bool
    delete_old_after: AwareDatetime | None
    resumed: bool
    deleted: tuple[str, ...] = ()
    probe_left: str | None = None
