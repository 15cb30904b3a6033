"""The settings source that reads ``AWS_*`` variables in place of ``BACKBLAZE_*`` ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from careflow_storage._endpoint import b2_endpoint, host_of, is_b2_host

AWS_NAMES = {
    "key_id": "AWS_ACCESS_KEY_ID",
    "application_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
    "region": "AWS_REGION",
    "endpoint": "AWS_ENDPOINT",
    "bucket_name": "AWS_S3_BUCKET",
}

# A group is read as a whole: halves of two key pairs cause a signature error without a reason.
AWS_GROUPS = (
    ("key_id", "application_key", "session_token"),
    ("region", "endpoint"),
    ("bucket_name",),
)

_AMAZON_KEY_ID = re.compile(r"A[KS]IA[A-Z2-7]{12,124}")
_AMAZON_REGION = re.compile(r"[a-z]+(-[a-z]+)*-[0-9]{1,2}")


def is_amazon_key_id(key_id: str) -> bool:
    """Whether the key ID is Amazon's, not Backblaze's."""
    return _AMAZON_KEY_ID.fullmatch(key_id) is not None


def is_temporary_key_id(key_id: str) -> bool:
    """Whether the key ID is of a temporary Amazon key, which requires a session token."""
    return is_amazon_key_id(key_id) and key_id.startswith("ASIA")


class AwsNamesSource(PydanticBaseSettingsSource):
    """Reads a group of ``AWS_*`` variables if no earlier source sets any field of the group.

    Looks in the environment (unless ``environment`` is False), then in the ``.env`` file, then in
    the secrets directory.
    """

    def __init__(
        self,
        settings_cls: type[BaseSettings],
        *,
        env_file: Path | str | Sequence[Path | str] | None,
        secrets_dir: Path | str | Sequence[Path | str] | None,
        environment: bool = True,
    ) -> None:
        super().__init__(settings_cls)
        self._environment = environment
        self._env_file = env_file
        self._secrets_dir = secrets_dir

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Return no value: ``__call__`` reads whole groups."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the values of the groups that are not set, except Amazon's own values.

        Lambda and ECS set ``AWS_REGION`` and an Amazon key pair in every process. For B2 these
        are ignored, so that the error names the missing ``BACKBLAZE_*`` variables.
        """
        given = self.current_state
        free = [name for group in AWS_GROUPS if not given.keys() & set(group) for name in group]
        if not free:
            return {}
        found = {name: value for name, value in self._read().items() if name in free}
        region = _text(found.get("region"))
        endpoint = _text(given.get("endpoint") or found.get("endpoint"))
        implied = b2_endpoint(_text(given.get("region")) or region)
        is_b2 = is_b2_host(_host(endpoint or implied or ""))
        if _AMAZON_REGION.fullmatch(region) and (is_b2 or not endpoint):
            del found["region"]
        if is_b2 and is_amazon_key_id(_text(found.get("key_id"))):
            found = {name: found[name] for name in found if name not in AWS_GROUPS[0]}
        return found

    def _read(self) -> dict[str, Any]:
        """Read all sources. A session token must be in the same source as its key pair."""
        found: dict[str, Any] = {}
        for values in self._sources():
            beside = {"key_id", "application_key"} & values.keys() - found.keys()
            found |= {
                name: value
                for name, value in values.items()
                if name not in found and (name != "session_token" or beside)
            }
        return found

    def _sources(self) -> list[Mapping[str, Any]]:
        sources: list[PydanticBaseSettingsSource] = []
        if self._environment:
            sources.append(EnvSettingsSource(AwsVariables))
        sources.append(DotEnvSettingsSource(AwsVariables, env_file=self._env_file))
        if self._secrets_dir is not None:
            sources.append(SecretsSettingsSource(AwsVariables, secrets_dir=self._secrets_dir))
        fields = {alias: name for name, alias in AWS_NAMES.items()}
        return [
            {fields.get(name, name): value for name, value in source().items()}
            for source in sources
        ]


def _text(value: object) -> str:
    # Not validated yet: an argument can have any type.
    return value.strip() if isinstance(value, str) else ""


def _host(endpoint: str) -> str:
    try:
        return host_of(endpoint if "://" in endpoint else f"https://{endpoint}").lower()
    except ValueError:
        return ""


class AwsVariables(BaseSettings):
    """The ``AWS_*`` variables, by the fields of `StorageSettings`."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_file_encoding="utf-8-sig",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    key_id: str | None = Field(default=None, validation_alias=AWS_NAMES["key_id"])
    application_key: SecretStr | None = Field(
        default=None, validation_alias=AWS_NAMES["application_key"]
    )
    session_token: SecretStr | None = Field(
        default=None, validation_alias=AWS_NAMES["session_token"]
    )
    region: str | None = Field(default=None, validation_alias=AWS_NAMES["region"])
    endpoint: str | None = Field(default=None, validation_alias=AWS_NAMES["endpoint"])
    bucket_name: str | None = Field(default=None, validation_alias=AWS_NAMES["bucket_name"])
