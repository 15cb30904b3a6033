"""Translate AWS's variables into Backblaze's, and report what needs new values."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from pydantic import SecretStr

from careflow_storage._aws_names import AWS_NAMES
from careflow_storage._endpoint import is_b2_host
from careflow_storage._env_file import read_env, write_env
from careflow_storage._executor import in_thread
from careflow_storage.errors import InvalidInputError
from careflow_storage.models import Model

# The name of the migration table first, then those of other programs: the SDKs of AWS, Django,
# Laravel, Rails.
_NAMES = {
    "key_id": (AWS_NAMES["key_id"], "AWS_S3_ACCESS_KEY_ID", "S3_ACCESS_KEY_ID"),
    "application_key": (
        *(AWS_NAMES["application_key"], "AWS_S3_SECRET_ACCESS_KEY", "S3_SECRET_ACCESS_KEY"),
    ),
    "bucket_name": (
        *(AWS_NAMES["bucket_name"], "S3_BUCKET", "AWS_BUCKET", "S3_BUCKET_NAME"),
        *("AWS_BUCKET_NAME", "AWS_S3_BUCKET_NAME", "AWS_STORAGE_BUCKET_NAME"),
    ),
    "endpoint": (
        *(AWS_NAMES["endpoint"], "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT"),
        *("AWS_S3_ENDPOINT", "AWS_S3_ENDPOINT_URL"),
    ),
    "region": (AWS_NAMES["region"], "AWS_DEFAULT_REGION", "AWS_S3_REGION_NAME", "S3_REGION"),
}
# A server refuses halves of two pairs without a reason.
_GROUPS = (("key_id", "application_key"), ("bucket_name",), ("endpoint", "region"))
_SECRETS = ("application_key",)

_AWS_KEY_ID = re.compile(r"A[A-Z]{3}[A-Z0-9]{16,124}")
_B2_KEY_ID = re.compile(r"[0-9a-f]{24,25}", re.IGNORECASE)
_MASTER_KEY_ID = re.compile(r"[0-9a-f]{12}", re.IGNORECASE)
_AWS_REGION = re.compile(r"[a-z]{2}(-[a-z]+){1,3}-[0-9]{1,2}")
_B2_REGION = re.compile(r"[a-z]{2}-[a-z]+-[0-9]{3}")
_AWS_HOSTS = ("amazonaws.com", "amazonaws.com.cn", "api.aws")

_WHERE = {
    "key_id": "the keyID of an application key: console, Application Keys, Add a New Key",
    "application_key": "the applicationKey that the console shows once, when it creates the key",
    "bucket_name": "the name of the B2 bucket: all accounts share the names, so that of your AWS "
    "bucket may be taken",
    "endpoint": "https:// and the Endpoint on the bucket's page, s3.us-west-004.backblazeb2.com",
    "region": "nothing: it is derived from BACKBLAZE_ENDPOINT",
}
# Variables of AWS that have no counterpart.
_DROPPED = {
    "AWS_SESSION_TOKEN": "B2 has no temporary credentials; an application key can expire.",
    "AWS_PROFILE": "Profiles in ~/.aws are not read; set the two halves of an application key.",
    "AWS_ROLE_ARN": "B2 has no roles; use an application key with few capabilities.",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "B2 has no roles; use an application key.",
    "AWS_KMS_KEY_ID": "B2 has no KMS; it encrypts with its own keys (SSE-B2) or yours (SSE-C).",
    "AWS_S3_KMS_KEY_ID": "B2 has no KMS; it encrypts with its own keys (SSE-B2) or yours (SSE-C).",
    "AWS_CA_BUNDLE": "Set BACKBLAZE_CA_FILE if the endpoint has a private certificate authority.",
}


class Carried(Model):
    """A variable that takes over the value of another. ``shown`` hides secrets."""

    variable: str
    taken_from: str
    value: SecretStr
    shown: str


class Unresolved(Model):
    """A variable that cannot be carried over, the reason, and what to set instead.

    ``variable`` is Backblaze's name, or None if there is nothing to set.
    """

    old_variable: str | None
    variable: str | None
    problem: str
    put: str


class Translation(Model):
    """The translation of AWS's variables. Creating it writes nothing.

    Attributes:
        carried: The variables to set.
        kept: The ``BACKBLAZE_*`` variables that exist already; they win.
        unresolved: The variables that need a decision by a person.
        missing: The required variables that are still not set.
    """

    carried: tuple[Carried, ...]
    kept: tuple[str, ...]
    unresolved: tuple[Unresolved, ...]
    missing: tuple[str, ...]

    @property
    def preview(self) -> str:
        """The lines to be written, with secrets masked."""
        return "".join(f"{each.variable}={each.shown}\n" for each in self.carried)


def translate_environment(source: Mapping[str, str] | str | os.PathLike[str]) -> Translation:
    """Translate AWS's variables by the migration table, including common synonyms.

    Values that belong to AWS are not carried over: its key pairs, regions, endpoints and the
    buckets there. ``unresolved`` lists them. Values for B2 or another S3 server are carried over;
    only their names were AWS's. ``BACKBLAZE_*`` variables win, in groups: half a key pair of
    AWS is never combined with half a key of Backblaze.

    Args:
        source: Variables such as ``os.environ``, or the path of a ``.env`` file.

    Raises:
        InvalidInputError: The file does not exist, or is not UTF-8 text.
        StorageError: The file cannot be read.
    """
    given = source if isinstance(source, Mapping) else read_env(source)
    variables = {name.upper(): value.strip() for name, value in given.items() if value.strip()}
    return _Translator(variables).translation()


async def write_translation(
    translation: Translation, path: str | os.PathLike[str] = ".env"
) -> None:
    """Set the carried variables in a ``.env`` file; all other lines stay.

    Writes atomically, readable only by the owner (0600), and creates the file if necessary.
    Never changes a ``BACKBLAZE_*`` variable that the file has.

    Raises:
        InvalidInputError: The file has one of the variables by now, or is malformed.
        StorageError: The file cannot be written. It is unchanged.
    """
    await in_thread(_write, translation, path)


def _write(translation: Translation, path: str | os.PathLike[str]) -> None:
    values = {each.variable: each.value.get_secret_value() for each in translation.carried}
    there = read_env(path) if os.path.lexists(path) else {}
    taken = {name.upper() for name, value in there.items() if value.strip()} & values.keys()
    if taken:
        raise InvalidInputError(
            f"{os.fspath(path)} has {', '.join(sorted(taken))} already.",
            hint="Translate that file: its BACKBLAZE_* variables win.",
        )
    if values:
        write_env(path, values)


class _Translator:
    """One translation."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._old = {field: self._find(field) for field in _NAMES}
        self._host = _host(variables.get(_variable("endpoint")) or self._value("endpoint"))
        self._unresolved: list[Unresolved] = []

    def translation(self) -> Translation:
        carried: list[Carried] = []
        for group in _GROUPS:
            if any(_variable(field) in self._variables for field in group):
                self._explain_halves(group)
            else:
                carried += [self._carry(field) for field in group if self._carries(field)]
        self._explain_conflicts()
        self._explain_dropped()
        kept = tuple(_variable(field) for field in _NAMES if _variable(field) in self._variables)
        there = {*kept, *(each.variable for each in carried)}
        return Translation(
            carried=tuple(carried),
            kept=kept,
            unresolved=tuple(self._unresolved),
            missing=tuple(_missing(there)),
        )

    def _find(self, field: str) -> str | None:
        return next((name for name in _NAMES[field] if name in self._variables), None)

    def _value(self, field: str) -> str:
        name = self._old[field]
        return "" if name is None else self._variables[name]

    def _carry(self, field: str) -> Carried:
        value = self._value(field)
        return Carried(
            variable=_variable(field),
            taken_from=self._old[field] or "",
            value=SecretStr(value),
            shown="********" if field in _SECRETS else value,
        )

    def _carries(self, field: str) -> bool:
        if self._old[field] is None:
            return False
        problem = self._problem(field)
        if problem is not None:
            self._add_unresolved(field, problem)
        return problem is None

    def _problem(self, field: str) -> str | None:
        """Return why a value cannot be carried over, or None."""
        value = self._value(field)
        if field in ("key_id", "application_key"):
            return self._problem_of_key(field)
        if field == "bucket_name" and self._is_aws():
            return "is the name of a bucket at AWS"
        if field == "endpoint" and _is_under(self._host, _AWS_HOSTS):
            return "is an endpoint of AWS"
        if field == "region":
            return self._problem_of_region(value)
        return None

    def _problem_of_key(self, field: str) -> str | None:
        key_id = self._value("key_id")
        if not key_id:
            return "is set without AWS_ACCESS_KEY_ID" if field == "application_key" else None
        if _AWS_KEY_ID.fullmatch(key_id) and (not self._host or self._is_aws() or self._is_b2()):
            return "belongs to a key pair of AWS"
        if _MASTER_KEY_ID.fullmatch(key_id) and (not self._host or self._is_b2()):
            return "belongs to the master key, which B2's S3 API refuses"
        return None

    def _problem_of_region(self, region: str) -> str | None:
        if self._is_b2():
            derived = self._host.removeprefix("s3.").partition(".")[0]
            return None if region == derived else f"does not match {self._old['endpoint']}"
        if _AWS_REGION.fullmatch(region) and not _B2_REGION.fullmatch(region):
            # Other servers use AWS's names of regions, too.
            return "is a region of AWS" if self._is_aws() else None
        return None

    def _is_b2(self) -> bool:
        return is_b2_host(self._host)

    def _is_aws(self) -> bool:
        """Whether the variables are for AWS: by the endpoint, or else by region and key."""
        if self._host:
            return _is_under(self._host, _AWS_HOSTS)
        if _B2_REGION.fullmatch(self._value("region")):
            return False
        return not _B2_KEY_ID.fullmatch(self._value("key_id"))

    def _add_unresolved(self, field: str, problem: str) -> None:
        self._unresolved.append(
            Unresolved(
                old_variable=self._old[field],
                variable=_variable(field),
                problem=problem,
                put=_WHERE[field],
            )
        )

    def _explain_halves(self, group: tuple[str, ...]) -> None:
        for field in group:
            if _variable(field) not in self._variables and field in ("key_id", "application_key"):
                self._add_unresolved(field, "is not the other half of the existing key")

    def _explain_conflicts(self) -> None:
        for field, names in _NAMES.items():
            used = self._old[field]
            for name in names:
                value = self._variables.get(name)
                if used is not None and value is not None and value != self._value(field):
                    problem = f"has another value than {used}, which is used"
                    self._unresolved.append(
                        Unresolved(
                            old_variable=name,
                            variable=_variable(field),
                            problem=problem,
                            put="the right one of the two",
                        )
                    )

    def _explain_dropped(self) -> None:
        for name, advice in _DROPPED.items():
            if name in self._variables:
                self._unresolved.append(
                    Unresolved(
                        old_variable=name,
                        variable=None,
                        problem="has no counterpart",
                        put=advice,
                    )
                )


def _missing(there: set[str]) -> Iterator[str]:
    for field in ("key_id", "application_key", "bucket_name"):
        if _variable(field) not in there:
            yield _variable(field)
    if there.isdisjoint({"BACKBLAZE_ENDPOINT", "BACKBLAZE_REGION"}):
        yield "BACKBLAZE_ENDPOINT"


def _variable(field: str) -> str:
    return f"BACKBLAZE_{field.upper()}"


def _host(endpoint: str) -> str:
    if not endpoint:
        return ""
    try:
        return urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}").hostname or ""
    except ValueError:
        return ""


def _is_under(host: str, domains: tuple[str, ...]) -> bool:
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)
