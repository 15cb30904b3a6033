"""Reads the settings of a location from its file alone, or from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from careflow_storage._aws_names import AwsNamesSource
from careflow_storage._env_file import read_text
from careflow_storage.errors import InvalidInputError, NotConfiguredError
from careflow_storage.settings import StorageSettings, settings_from_environment


class _FileSettings(StorageSettings):
    """Settings that the variables of the environment do not change."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(title="StorageSettings")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the file only."""
        aws_names = AwsNamesSource(
            settings_cls,
            env_file=getattr(dotenv_settings, "env_file", None),
            secrets_dir=None,
            environment=False,
        )
        return (init_settings, dotenv_settings, aws_names)


def settings_of(env_file: Path | None, bucket: str | None) -> StorageSettings:
    """Return complete settings. Raises the errors of `Location.settings`."""
    values: dict[str, Any] = {} if bucket is None else {"bucket_name": bucket}
    if env_file is None:
        settings = settings_from_environment(**values)
    else:
        settings = _settings_of_file(env_file, values)
    if missing := settings.missing_variables():
        where = "the environment" if env_file is None else str(env_file)
        raise NotConfiguredError(missing, hint=f"They are missing in {where}.")
    return settings


def _settings_of_file(env_file: Path, values: dict[str, Any]) -> StorageSettings:
    path = env_file.expanduser()
    read_text(path)  # pydantic takes a file that does not exist for an empty one
    try:
        return _FileSettings(_env_file=path, **values)
    except ValidationError as error:
        problems = "; ".join(str(problem["msg"]) for problem in error.errors())
    raise InvalidInputError(f"The settings in {env_file} are invalid: {problems}")
