"""Configuration from the ``BACKBLAZE_*`` variables, checked before any request.

Each value is read from the first of these places that has it: an argument of
``StorageSettings(...)``, the environment, the file ``.env`` in the working directory, a file named
after the variable in a secrets directory (``/run/secrets``, which Docker and Kubernetes mount).

The ``AWS_*`` variables of the migration table come last, in groups: the AWS key pair is used only
if neither half of the Backblaze pair is set, and the AWS region and endpoint only if neither
Backblaze one is. A server refuses a mixed pair without giving the reason. Amazon's own values (a
region such as ``us-east-1``, a key ID such as ``ASIA...``) are not used for B2.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from careflow_storage._aws_names import (
    AwsNamesSource,
    is_amazon_key_id,
    is_temporary_key_id,
)
from careflow_storage._endpoint import (
    B2_REGIONS,
    b2_endpoint,
    b2_region,
    bucket_name_problem,
    host_of,
    is_b2_host,
    is_loopback,
    normalize_endpoint,
)
from careflow_storage._settings_errors import label_of, variable_of, without_values
from careflow_storage.errors import InvalidInputError

_MIB = 1024 * 1024
_GB = 1000 * 1000 * 1000
_SECRETS_DIR = Path("/run/secrets")
_REGION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_LIKE_B2_REGION = re.compile(r"[A-Za-z]+-[A-Za-z0-9-]+")
_MASTER_KEY_ID = re.compile(r"[0-9a-f]{12}", re.IGNORECASE)
_APPLICATION_KEY = re.compile(r"K[0-9]{3}[A-Za-z0-9+/]{27}")

_SIZE = re.compile(r"[0-9.]+ *[A-Za-z]+")
_Seconds = Annotated[float, Field(allow_inf_nan=False)]


def _bytes_of(value: object) -> object:
    """Convert a size with a unit, such as "64MiB" or "5 GB", to bytes."""
    if not isinstance(value, str) or not value.strip()[-1:].isalpha():
        return value  # a plain number, or a value that pydantic refuses
    # pydantic would ignore text after the unit.
    if _SIZE.fullmatch(value.strip()):
        with contextlib.suppress(ValidationError):
            return int(_BYTE_SIZE.validate_python(value.strip()))
    # Raised outside of the block: pydantic's error holds the value.
    raise ValueError("must be a number of bytes or a size such as 64MiB or 5GB")


_BYTE_SIZE: TypeAdapter[ByteSize] = TypeAdapter(ByteSize)
# An int for type checkers, so that callers can pass a plain number.
_Size = Annotated[int, BeforeValidator(_bytes_of)]


class StorageSettings(BaseSettings):
    """The bucket, the application key, and the limits of a storage.

    Each field has an environment variable: that of ``key_id`` is ``BACKBLAZE_KEY_ID``. Unknown
    ``BACKBLAZE_*`` variables are ignored. ``_env_file`` (one path or several, or None for no
    file) replaces ``.env``, and ``_secrets_dir`` (one directory or several) replaces
    ``/run/secrets``.

    If a required field is missing, ``is_configured`` is False and ``missing_variables()`` names
    the variable. Every value is validated at once. Settings are immutable:
    ``model_copy(update=...)`` returns a changed and validated copy, and does not read the
    environment again.

    Raises:
        pydantic.ValidationError: A value is malformed, or two values contradict each other. The
            error names the variables and contains none of the values.
        InvalidInputError: The ``.env`` file or a secret is not UTF-8 text.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="BACKBLAZE_",
        env_file=".env",
        env_file_encoding="utf-8-sig",  # editors on Windows write a byte order mark
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=False,
    )

    key_id: str | None = None
    """The application key's ID (24 or 25 hex digits). B2's master key cannot use the S3 API."""

    application_key: SecretStr | None = None
    """The application key. The console shows it once, when it is created. Secret."""

    session_token: SecretStr | None = None
    """The token of a temporary key pair of another S3 server. B2 has none. Secret."""

    bucket_name: str | None = None
    """The bucket that holds the recordings."""

    endpoint: str | None = None
    """The S3 endpoint, e.g. ``https://s3.us-west-004.backblazeb2.com``. Default on B2: that of the
    region."""

    region: str | None = None
    """The region that requests are signed for, e.g. ``us-west-004``. Default: the region of B2's
    endpoint; ``us-east-1`` for any other endpoint."""

    allow_http: bool = False
    """Whether to accept an ``http://`` endpoint on another machine. Every machine in between can
    then read the recordings. Never accepted for B2."""

    part_size: _Size = Field(default=8 * _MIB, ge=5 * _MIB, le=5 * _GB)
    """The minimum size of a part of a multipart upload, in bytes. The variable accepts
    ``16MiB``, too."""

    multipart_threshold: _Size = Field(default=16 * _MIB, ge=1, le=5 * _GB)
    """The size from which a file is uploaded in parts, in bytes. The variable accepts ``16MiB``,
    too."""

    transfer_concurrency: int = Field(default=4, ge=1, le=1000)
    """The most parts of one transfer in flight."""

    max_connections: int = Field(default=100, ge=1, le=10_000)
    """The most requests of this storage in flight."""

    memory_budget: _Size = Field(default=64 * _MIB, ge=8 * _MIB)
    """The most bytes that all transfers of this storage buffer together. The variable accepts
    ``64MiB``, too."""

    connect_timeout: _Seconds = Field(default=10.0, gt=0, le=3600)
    """The most seconds to open a connection, TLS included."""

    idle_timeout: _Seconds = Field(default=60.0, gt=0, le=86_400)
    """The most seconds without any byte sent or received, before a request fails."""

    pool_timeout: _Seconds = Field(default=120.0, gt=0, le=86_400)
    """The most seconds that a request waits while ``max_connections`` are in flight."""

    retry_attempts: int = Field(default=8, ge=1, le=100)
    """The most attempts of a request, including the first. 1 means no retries."""

    retry_base_delay: _Seconds = Field(default=1.0, ge=0, le=3600)
    """The most seconds before the first retry. Doubled for each further retry."""

    retry_max_delay: _Seconds = Field(default=64.0, ge=0, le=86_400)
    """The most seconds before any retry. If the server requests more (``Retry-After``), the error
    is raised at once, with ``retry_after`` set."""

    rate_limit: float | None = Field(default=None, gt=0, le=100_000, allow_inf_nan=False)
    """The most requests per second, see `RateLimit`. None sends them as fast as the server
    responds."""

    checksum: Literal["md5", "crc32", "sha256"] = "md5"
    """The checksum of every upload, which the server verifies."""

    ca_file: Path | None = None
    """A PEM file of certificate authorities to trust instead of the system's."""

    # Hidden from type checkers, which derive the signature from the fields.
    if not TYPE_CHECKING:

        def __init__(self, **values: Any) -> None:
            without_values(super().__init__, values)

        def __setattr__(self, name: str, value: Any) -> None:
            # Always refused, but the error of pydantic would show the value.
            without_values(functools.partial(super().__setattr__, name, value), {})

    @property
    def is_configured(self) -> bool:
        """Whether every setting that requests require is set."""
        return not self.missing_variables()

    @property
    def is_b2(self) -> bool:
        """Whether the endpoint is Backblaze B2, not another S3 server."""
        return self.endpoint is not None and is_b2_host(host_of(self.endpoint))

    def missing_variables(self) -> tuple[str, ...]:
        """Return the names of the required variables that are not set."""
        needed = ("key_id", "application_key", "bucket_name", "endpoint")
        return tuple(variable_of(name) for name in needed if getattr(self, name) is None)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with the fields of ``update`` replaced, and check it like new settings.

        Derives a derived region or endpoint again. Does not read the environment.

        Raises:
            pydantic.ValidationError: As for new settings.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set} | dict(update or {})
        cls = type(self)
        copy = cls.__new__(cls)
        # The __init__ of BaseSettings would read the environment again.
        update = None  # may contain the key, and a traceback holds this frame
        without_values(functools.partial(BaseModel.__init__, copy), given)
        return copy

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Add ``/run/secrets``, and the ``AWS_*`` variables as the last source."""
        secrets_dir = getattr(file_secret_settings, "secrets_dir", None)
        if secrets_dir is None and os.access(_SECRETS_DIR, os.R_OK | os.X_OK):
            secrets_dir = _SECRETS_DIR
            file_secret_settings = SecretsSettingsSource(settings_cls, secrets_dir=secrets_dir)
        aws_names = AwsNamesSource(
            settings_cls,
            env_file=getattr(dotenv_settings, "env_file", None),
            secrets_dir=secrets_dir,
        )
        return (init_settings, env_settings, dotenv_settings, file_secret_settings, aws_names)

    @field_validator(
        *("key_id", "application_key", "session_token", "bucket_name", "endpoint", "region"),
        mode="before",
    )
    @classmethod
    def _strip(cls, value: object) -> object:
        # Pasting, piping and files add blanks around values.
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, bytes):
            raise ValueError("must be a str, not bytes")
        if not isinstance(text, str):
            return value
        text = text.strip("\ufeff \t\r\n\v\f")
        if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
            raise ValueError("is wrapped in quotes; remove them (docker --env-file keeps quotes)")
        if not text.isascii() or any(character <= " " or character == "\x7f" for character in text):
            raise ValueError(
                "contains a space, a line break or another character that is not allowed"
            )
        return text or None

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str | None) -> str | None:
        return None if endpoint is None else normalize_endpoint(endpoint)

    @field_validator("region")
    @classmethod
    def _check_region(cls, region: str | None) -> str | None:
        if region is not None and not _REGION.fullmatch(region):
            raise ValueError(
                f"is not the name of a region; those of B2 are {', '.join(B2_REGIONS)}"
            )
        return region

    @field_validator("key_id")
    @classmethod
    def _check_key_id(cls, key_id: str | None) -> str | None:
        # A key ID is shown and sent in the clear, so a secret must not pass as one.
        if key_id is not None and _APPLICATION_KEY.fullmatch(key_id):
            raise ValueError("is an application key, not its ID: the two are swapped")
        return key_id

    @field_validator("ca_file")
    @classmethod
    def _check_ca_file(cls, ca_file: Path | None) -> Path | None:
        if ca_file is not None and not ca_file.expanduser().is_file():
            raise ValueError("is not a file")
        return None if ca_file is None else ca_file.expanduser()

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        self._derive_region_and_endpoint()
        if self.endpoint is not None:
            self._check_scheme(self.endpoint)
            if self.bucket_name is not None:
                problem = bucket_name_problem(self.bucket_name, b2=self.is_b2)
                if problem:
                    raise ValueError(f"{label_of('bucket_name')} {problem}")
        self._check_key_for_server()
        if self.retry_max_delay < self.retry_base_delay:
            raise ValueError(
                f"{variable_of('retry_max_delay')} is less than {variable_of('retry_base_delay')}"
            )
        return self

    def _check_key_for_server(self) -> None:
        """Refuse a key that the server would refuse without giving the reason."""
        key_id = self.key_id or ""
        if self.is_b2 and _MASTER_KEY_ID.fullmatch(key_id):
            raise ValueError(
                f"{label_of('key_id')} is the ID of the master key, which B2's S3 API refuses; "
                "create an application key on the console's page Application Keys"
            )
        if self.is_b2 and is_amazon_key_id(key_id):
            raise ValueError(
                f"{label_of('key_id')} is the ID of an Amazon key, which Backblaze does not know; "
                "create an application key on the console's page Application Keys"
            )
        if self.is_b2 and self.session_token is not None:
            raise ValueError(
                f"{label_of('session_token')} is set, but Backblaze has no temporary keys; unset it"
            )
        if self.endpoint is not None and is_temporary_key_id(key_id) and self.session_token is None:
            raise ValueError(
                f"{label_of('key_id')} is the ID of a temporary key: set its session token, too, "
                f"as {label_of('session_token')} in the same place"
            )

    def _derive_region_and_endpoint(self) -> None:
        if self.endpoint is None:
            self._derive_endpoint()
            return
        derived = b2_region(host_of(self.endpoint))
        if derived is not None and self.region is not None and self.region.lower() != derived:
            raise ValueError(
                f"{label_of('region')} does not match {label_of('endpoint')}, "
                f"whose region is {derived}; set only one of the two"
            )
        self._set_derived("region", derived or self.region or "us-east-1")

    def _derive_endpoint(self) -> None:
        if self.region is None:
            return
        endpoint = b2_endpoint(self.region)
        if endpoint is not None:
            self._set_derived("endpoint", endpoint)
            self._set_derived("region", b2_region(host_of(endpoint)))
        elif _LIKE_B2_REGION.fullmatch(self.region):
            raise ValueError(
                f"{label_of('region')} is not one of Backblaze's regions "
                f"({', '.join(B2_REGIONS)}); for another S3 server set {label_of('endpoint')}, too"
            )
        # Any other region is that of another server, whose endpoint is missing.

    def _check_scheme(self, endpoint: str) -> None:
        if endpoint.startswith("https://") or is_loopback(host_of(endpoint)):
            return
        if self.is_b2:
            raise ValueError(f"{label_of('endpoint')} must begin with https://: B2 has no http")
        if not self.allow_http:
            raise ValueError(
                f"{label_of('endpoint')} is not https, so recordings would be sent unencrypted; "
                f"set {variable_of('allow_http')}=true if the network is your own"
            )

    def _set_derived(self, name: str, value: str | None) -> None:
        # Bypasses `frozen` and leaves model_fields_set alone, since the value is derived.
        self.__dict__[name] = value


def settings_from_environment(**values: Any) -> StorageSettings:
    """Return ``StorageSettings(**values)``; raise `InvalidInputError` if a value is invalid."""
    try:
        return StorageSettings(**values)
    except ValidationError as error:
        values.clear()
        problems = "; ".join(str(problem["msg"]) for problem in error.errors())
        raise InvalidInputError(f"The settings are invalid: {problems}") from None
