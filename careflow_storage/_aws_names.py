"""The AWS variables that stand in for Backblaze's: the migration table as a settings source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

AWS_NAMES = {
    "key_id": "AWS_ACCESS_KEY_ID",
    "application_key": "AWS_SECRET_ACCESS_KEY",
    "region": "AWS_REGION",
    "endpoint": "AWS_ENDPOINT",
    "bucket_name": "AWS_S3_BUCKET",
}

# What goes together: half of one pair and half of another give an opaque signature error.
AWS_GROUPS = (("key_id", "application_key"), ("region", "endpoint"), ("bucket_name",))


class AwsNamesSource(PydanticBaseSettingsSource):
    """The AWS names, for those groups of which no earlier source has any part.

    They are looked up where the other names are: environment, ``.env`` file, secrets.
    """

    def __init__(
        self,
        settings_cls: type[BaseSettings],
        *,
        env_file: Path | str | Sequence[Path | str] | None,
        secrets_dir: Path | str | Sequence[Path | str] | None,
    ) -> None:
        super().__init__(settings_cls)
        self._env_file = env_file
        self._secrets_dir = secrets_dir

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Give nothing: whole groups are decided on, in ``__call__``."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Give the values of the groups that are free."""
        given = self.current_state
        free = [name for group in AWS_GROUPS if not given.keys() & set(group) for name in group]
        if not free:
            return {}
        aws = AwsVariables(_env_file=self._env_file, _secrets_dir=self._secrets_dir)
        return {name: getattr(aws, name) for name in free if name in aws.model_fields_set}


class AwsVariables(BaseSettings):
    """What stands under AWS's names, by field."""

    model_config = SettingsConfigDict(
        env_file_encoding="utf-8-sig",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    key_id: str | None = Field(None, validation_alias=AWS_NAMES["key_id"])
    application_key: SecretStr | None = Field(None, validation_alias=AWS_NAMES["application_key"])
    region: str | None = Field(None, validation_alias=AWS_NAMES["region"])
    endpoint: str | None = Field(None, validation_alias=AWS_NAMES["endpoint"])
    bucket_name: str | None = Field(None, validation_alias=AWS_NAMES["bucket_name"])
