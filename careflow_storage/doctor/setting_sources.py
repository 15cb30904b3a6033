"""Find out where each setting comes from: a variable, a file, or the default.

For `diagnose` and for ``careflow-storage config``. Sends no request. Reads files, so an event
loop runs this in a thread.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    SecretsSettingsSource,
)

from careflow_storage._aws_names import AWS_GROUPS, AWS_NAMES, AwsVariables
from careflow_storage._s3.redaction import printable
from careflow_storage.errors import InvalidInputError
from careflow_storage.models import Model
from careflow_storage.settings import StorageSettings

Source = Literal["code", "environment", "env_file", "secrets", "derived", "default", "missing"]

# Too short for a secret in the wrong place: application keys have 31 characters, AWS's 40.
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,25}")
_SHORTEST_SHOWN = 20
_NEEDED = ("key_id", "application_key", "bucket_name", "endpoint", "region")


class SettingOrigin(Model):
    """One setting.

    Attributes:
        name: The field of `StorageSettings`.
        variable: The environment variable that sets it.
        value: The value as text; the application key is masked. None without a value, or with
            a malformed one, which may be a secret in the wrong place.
        source: The kind of place.
        where: The place in words, such as ``BACKBLAZE_REGION in /app/.env``.
        shadowed: Other places whose different value is not used.
        problem: What is wrong with the value, or None.
    """

    name: str
    variable: str
    value: str | None
    source: Source
    where: str
    shadowed: tuple[str, ...] = ()
    problem: str | None = None


def settings_with_origin(
    settings: StorageSettings | None = None, **values: Any
) -> list[SettingOrigin]:
    """Return each setting with its value and source, in the order of the fields.

    Args:
        settings: The settings to explain. None explains ``StorageSettings(**values)``, even if
            that is malformed: ``problem`` says so then.
        values: Arguments of `StorageSettings`, including ``_env_file`` and ``_secrets_dir``.

    Raises:
        InvalidInputError: The ``.env`` file or a secret is not UTF-8 text.
    """
    problems: dict[str, str] = {}
    if settings is None:
        settings, problems = _read(values)
    places = _places(values)
    return [_origin(name, settings, values, places, problems) for name in _fields()]


def settings_problems(**values: Any) -> tuple[str, ...]:
    """Describe, in sentences, what is wrong with ``StorageSettings(**values)``.

    Raises:
        InvalidInputError: The ``.env`` file or a secret is not UTF-8 text.
    """
    try:
        StorageSettings(**values)
    except ValidationError as error:
        return tuple(line["msg"] for line in error.errors(include_url=False))
    return ()


def places_searched(**values: Any) -> tuple[str, ...]:
    """Describe the places that are searched for settings, in order."""
    files = [str(path) if path.is_file() else f"{path} (no such file)" for path in _files(values)]
    return ("the environment", *files, *(str(path) for path in _secrets(values)))


def masked(secret: str) -> str:
    """Mask a secret: show its first 3 and last 2 characters and its length."""
    length = f"({len(secret)} character{'s' * (len(secret) != 1)})"
    if len(secret) < _SHORTEST_SHOWN or not secret.isprintable() or not secret.isascii():
        return f"… {length}"
    return f"{secret[:3]}…{secret[-2:]} {length}"


class _Place(NamedTuple):
    """A place that has values, by field."""

    source: Source
    words: str
    values: Mapping[str, str]
    is_aws: bool


def _fields() -> list[str]:
    return [*_NEEDED, *(name for name in StorageSettings.model_fields if name not in _NEEDED)]


def _variable(name: str) -> str:
    return f"BACKBLAZE_{name.upper()}"


def _read(values: Mapping[str, Any]) -> tuple[StorageSettings | None, dict[str, str]]:
    try:
        return StorageSettings(**values), {}
    except ValidationError as error:
        lines = error.errors(include_url=False)
    return None, {str(line["loc"][0]): line["msg"] for line in lines if line["loc"]}


def _origin(
    name: str,
    settings: StorageSettings | None,
    given: Mapping[str, Any],
    places: list[_Place],
    problems: Mapping[str, str],
) -> SettingOrigin:
    problem = problems.get(name)
    candidates = [(place, place.values[name]) for place in _allowed(name, places, given)]
    if given.get(name) is not None:
        code = _Place("code", "passed as an argument", {}, is_aws=False)
        candidates.insert(0, (code, _text(given[name])))
    if settings is not None:
        value = getattr(settings, name)
    else:
        value = (
            None if name in _NEEDED or candidates else StorageSettings.model_fields[name].default
        )
    if settings is not None and name not in settings.model_fields_set:
        candidates = []
    elif settings is not None and value is not None:
        # Settings made elsewhere: a value that no place has was passed by code.
        while candidates and not _same(name, candidates[0][1], value):
            candidates.pop(0)
        if not candidates:
            candidates = [(_Place("code", "passed as an argument", {}, is_aws=False), _text(value))]
    if not candidates:
        source, where = _without_place(name, value)
        return _made(name, value, source, where, problem=problem)
    (place, text), others = candidates[0], candidates[1:]
    return _made(
        name,
        text if value is None else value,
        place.source,
        _where(name, place),
        shadowed=tuple(_where(name, other) for other, has in others if has != text),
        problem=problem,
    )


def _made(
    name: str,
    value: Any,
    source: Source,
    where: str,
    *,
    shadowed: tuple[str, ...] = (),
    problem: str | None,
) -> SettingOrigin:
    shown = None if value is None or problem is not None else _shown(name, value)
    return SettingOrigin(
        name=name,
        variable=_variable(name),
        value=shown,
        source=source,
        where=where,
        shadowed=shadowed,
        problem=problem,
    )


def _without_place(name: str, value: Any) -> tuple[Source, str]:
    if value is None:
        return ("missing" if name in _NEEDED else "default"), "not set"
    if name == "endpoint":
        return "derived", "derived from the region"
    if name == "region":
        return "derived", "derived from the endpoint"
    return "default", "the default"


def _where(name: str, place: _Place) -> str:
    if place.source == "code":
        return place.words
    return f"{AWS_NAMES[name] if place.is_aws else _variable(name)} in {place.words}"


def _shown(name: str, value: Any) -> str:
    text = _text(value).strip()
    hidden = name in ("application_key", "session_token") or (
        name == "key_id" and not _KEY_ID.fullmatch(text)
    )
    return masked(text) if hidden else printable(text)


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _same(name: str, text: str, value: Any) -> bool:
    """Whether the settings make this value of the text."""
    text, made = text.strip(), _text(value)
    if text == made:
        return True
    if name in ("endpoint", "region", "allow_http"):
        return text.lower().removeprefix("https://").rstrip("/") == made.removeprefix("https://")
    try:
        return float(text) == float(made)
    except ValueError:
        return name == "ca_file" and str(Path(text).expanduser()) == made


def _allowed(name: str, places: list[_Place], given: Mapping[str, Any]) -> list[_Place]:
    """Return the places with a field. AWS's names count only if their whole group is free."""
    group = next((group for group in AWS_GROUPS if name in group), (name,))
    own = [place for place in places if not place.is_aws]
    taken = any(
        given.get(each) is not None or any(each in place.values for place in own) for each in group
    )
    return [place for place in places if name in place.values and not (place.is_aws and taken)]


def _places(values: Mapping[str, Any]) -> list[_Place]:
    """Return all places with values; earlier ones win."""
    try:
        return [
            *_places_of(StorageSettings, values, is_aws=False),
            *_places_of(AwsVariables, values, is_aws=True),
        ]
    except UnicodeDecodeError:
        raise InvalidInputError(
            "A settings file is not UTF-8 text.",
            hint="Save .env and secrets as UTF-8; PowerShell's redirection writes UTF-16.",
        ) from None


def _places_of(cls: type[BaseSettings], values: Mapping[str, Any], *, is_aws: bool) -> list[_Place]:
    found: list[tuple[Source, str, Mapping[str, Any]]] = [
        ("environment", "the environment", EnvSettingsSource(cls)())
    ]
    found += [
        ("env_file", str(path), DotEnvSettingsSource(cls, env_file=path)())
        for path in _files(values)
    ]
    found += [
        ("secrets", str(path), SecretsSettingsSource(cls, secrets_dir=path)())
        for path in _secrets(values)
    ]
    return [_Place(source, words, _by_field(cls, read), is_aws) for source, words, read in found]


def _by_field(cls: type[BaseSettings], read: Mapping[str, Any]) -> dict[str, str]:
    names = {name: name for name in cls.model_fields}
    names |= {str(info.validation_alias): name for name, info in cls.model_fields.items()}
    return {names[name]: _text(value) for name, value in read.items() if name in names}


def _files(values: Mapping[str, Any]) -> list[Path]:
    # In pydantic-settings later files win.
    given = values.get("_env_file", StorageSettings.model_config.get("env_file"))
    return [Path(path).absolute() for path in reversed(_several(given))]


def _secrets(values: Mapping[str, Any]) -> list[Path]:
    # The settings decide on the default.
    *_, secrets, _ = StorageSettings.settings_customise_sources(
        StorageSettings,
        InitSettingsSource(StorageSettings, {}),
        EnvSettingsSource(StorageSettings),
        DotEnvSettingsSource(StorageSettings, env_file=None),
        SecretsSettingsSource(StorageSettings, secrets_dir=values.get("_secrets_dir")),
    )
    given = getattr(secrets, "secrets_dir", None)
    return [Path(path).absolute() for path in reversed(_several(given))]


def _several(given: Any) -> list[str | os.PathLike[str]]:
    if given is None:
        return []
    return [given] if isinstance(given, str | os.PathLike) else list(given)
