"""`ApplicationKeys`: the keys of an account, by b2sdk in a thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from careflow_storage.admin.keys.models import CreatedKey, KeyInfo, Preset, RotationResult
from careflow_storage.settings import StorageSettings


class ApplicationKeys:
    """The application keys of an account.

    Args:
        key_id: Of a key with listKeys, writeKeys and deleteKeys; the master key has them.
        application_key: The key itself.
        realm: The native API, ``production`` or a URL.
    """

    def __init__(self, key_id: str, application_key: str, *, realm: str = "production") -> None:
        raise NotImplementedError

    @classmethod
    def of_settings(cls, settings: StorageSettings) -> Self:
        """Sign in with the key of these settings."""
        raise NotImplementedError

    async def create(
        self,
        name: str,
        capabilities: Preset | Iterable[str],
        *,
        bucket: str | None = None,
        prefix: str | None = None,
        expires_in: timedelta | None = None,
    ) -> CreatedKey:
        raise NotImplementedError

    async def list(self) -> list[KeyInfo]:
        raise NotImplementedError

    async def delete(self, key_id: str) -> KeyInfo:
        raise NotImplementedError

    async def rotate(
        self,
        key_id: str,
        *,
        settings: StorageSettings | None = None,
        env_file: Path | None = None,
        deliver: Callable[[CreatedKey], Awaitable[None] | None] | None = None,
        grace: timedelta | None = None,
        now: datetime | None = None,
    ) -> RotationResult:
        raise NotImplementedError
