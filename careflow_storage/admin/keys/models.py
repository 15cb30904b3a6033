"""What the calls about application keys take and give."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import AwareDatetime, SecretStr

from careflow_storage.models import Model

Preset = Literal["uploader", "analytics", "app", "admin"]


class KeyInfo(Model):
    """An application key as the account lists it; nobody can list its secret."""

    key_id: str
    name: str
    capabilities: tuple[str, ...]
    bucket_names: tuple[str, ...] | None
    prefix: str | None
    expires_at: AwareDatetime | None

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        raise NotImplementedError


class CreatedKey(KeyInfo):
    """A new key with its secret, which is told this one time."""

    application_key: SecretStr


class RotationResult(Model):
    """How far a rotation is. ``old_deleted`` is False while the grace time lasts."""

    old_key_id: str
    new_key_id: str
    proved: bool
    old_deleted: bool
    delete_old_after: AwareDatetime | None
    resumed: bool


DEFAULT_GRACE = timedelta(0)
