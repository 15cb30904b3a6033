"""The app's settings, from ``RECORDINGS_*`` variables or a file ``.env``."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

MiB = 1024 * 1024

# A user's name begins the IDs of the user's calls, up to the first dot.
_USER = re.compile(r"[a-z0-9-]{1,32}")
_SHORTEST_TOKEN = 16


def _check_users(users: dict[str, SecretStr]) -> dict[str, SecretStr]:
    tokens = [token.get_secret_value() for token in users.values()]
    if not all(map(_USER.fullmatch, users)):
        raise ValueError("The name of a user is 1 to 32 lower-case letters, digits and hyphens.")
    if any(len(token) < _SHORTEST_TOKEN for token in tokens):
        raise ValueError(f"A token has {_SHORTEST_TOKEN} characters or more.")
    if len(set(tokens)) < len(tokens):
        raise ValueError("Two users have the same token.")
    return users


class TwilioSettings(BaseModel):
    """An account at Twilio, whose recordings are calls of one user.

    Attributes:
        user: Who has the recordings.
        auth_token: Signs the webhooks.
        api_key: Fetches the recordings, with ``api_secret``.
        public_url: The address of the app as Twilio knows it, such as https://calls.example.com.
        outbox: The folder of what waits to be fetched and stored.
        media_host: Where the recordings are.
        allow_private_addresses: For a stand-in of Twilio on this machine.
    """

    user: str
    auth_token: SecretStr
    api_key: str
    api_secret: SecretStr
    public_url: str | None = None
    outbox: Path = Path("outbox")
    media_host: str = "twilio.com"
    allow_private_addresses: bool = False


class AppSettings(BaseSettings):
    """What the app needs besides the bucket.

    Attributes:
        users: The sign-in token of each user.
        secret: Signs the tickets of uploads. Set it where several processes serve the app.
        max_upload: The largest file that a page may upload, in bytes.
        max_recordings: The most recordings that one listing shows.
        twilio: An account at Twilio, from ``RECORDINGS_TWILIO__USER`` and so on; None without.
    """

    model_config = SettingsConfigDict(
        env_prefix="RECORDINGS_", env_nested_delimiter="__", env_file=".env", extra="ignore"
    )

    users: Annotated[dict[str, SecretStr], AfterValidator(_check_users)]
    secret: SecretStr = Field(default_factory=lambda: SecretStr(secrets.token_urlsafe(32)))
    max_upload: int = 500 * MiB
    max_recordings: int = 1000
    twilio: TwilioSettings | None = None
