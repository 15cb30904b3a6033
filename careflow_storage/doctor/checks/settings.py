"""Check the settings: present, well-formed and consistent; report where they come from."""

from __future__ import annotations

import re

from pydantic import ValidationError

from careflow_storage._endpoint import b2_region, host_of
from careflow_storage._executor import in_thread
from careflow_storage.doctor.context import DoctorContext
from careflow_storage.doctor.models import Outcome, failed, passed, warned
from careflow_storage.doctor.setting_sources import (
    SettingOrigin,
    places_searched,
    settings_problems,
    settings_with_origin,
)
from careflow_storage.errors import InvalidInputError
from careflow_storage.settings import StorageSettings

_SHOWN = ("key_id", "application_key", "bucket_name", "endpoint", "region")
# Reported only if they are set.
_NOTEWORTHY = ("ca_file", "allow_http")
_WHERE_TO_GET = {
    "BACKBLAZE_KEY_ID": "the console's page Application Keys (keyID; it starts with 00)",
    "BACKBLAZE_APPLICATION_KEY": "the console, once, when the key is created (applicationKey)",
    "BACKBLAZE_BUCKET_NAME": "the console's page Buckets",
    "BACKBLAZE_ENDPOINT": "the console's page Buckets, at the bucket",
    "BACKBLAZE_REGION": "the endpoint: it is its second part",
}
_KEY_ID = re.compile(r"[0-9a-f]{24,25}", re.IGNORECASE)
_APPLICATION_KEY = re.compile(r"K[0-9]{3}[A-Za-z0-9+/]{27}")
_PLACEHOLDER = re.compile(r"your[-_]|x{6}|<.*>|changeme|example", re.IGNORECASE)


async def settings(context: DoctorContext) -> list[Outcome]:
    """Report the settings and their sources. Reads files in a thread."""
    try:
        return await in_thread(_settings, context)
    except InvalidInputError as error:
        # The file is not text.
        return [failed(error.message, "A settings file cannot be read.", error.hint or "Fix it.")]


def _settings(context: DoctorContext) -> list[Outcome]:
    values = context.values
    problems = () if context.given is not None else settings_problems(**values)
    try:
        context.settings = context.given or StorageSettings(**values)
    except ValidationError:
        context.settings = None
    origins = {each.name: each for each in settings_with_origin(context.given, **context.values)}
    searched = ", ".join(places_searched(**values))
    outcomes = [_one(origins[name], searched) for name in _SHOWN]
    outcomes += [
        _one(origins[name], searched)
        for name in _NOTEWORTHY
        if origins[name].source not in ("default", "missing")
    ]
    own = {each.problem for each in origins.values()}
    malformed = [each for each in origins.values() if each.problem and each.name not in _SHOWN]
    outcomes += [_one(each, searched) for each in malformed]
    outcomes += [_together(problem) for problem in problems if problem not in own]
    if problems:
        outcomes.append(
            Outcome(
                "fail",
                "The settings are not valid, so no request can be sent.",
                "The checks above name each problem.",
                "Correct the settings that failed above.",
                check="settings",
            )
        )
    pair = [origins[name] for name in ("key_id", "application_key")]
    if not problems and pair[0].where.partition(" in ")[2] != pair[1].where.partition(" in ")[2]:
        outcomes += _from_two_places(*pair)
    return outcomes


def _one(origin: SettingOrigin, searched: str) -> Outcome:
    name = origin.variable
    if origin.problem is not None:
        return Outcome(
            "fail",
            f"{origin.problem} ({origin.where.removeprefix(f'{name} ')})",
            "The value is malformed. It is not shown, because it may be a secret.",
            f"Correct it. See {_WHERE_TO_GET.get(name, 'docs/settings.md')}.",
            check=name,
        )
    if origin.source == "missing" and origin.name == "region":
        return Outcome("skip", "Derived from the endpoint.", check=name)
    if origin.source == "missing":
        return Outcome(
            "fail",
            "is not set",
            f"None of these has it: {searched}.",
            f"Set it. Get it from {_WHERE_TO_GET[name]}.",
            check=name,
        )
    found = f"{origin.value}  ({origin.where.removeprefix(f'{name} ')})"
    # An argument is meant to replace a value.
    if origin.shadowed and origin.source != "code":
        return Outcome(
            "warn",
            found,
            f"These have another value, which is not used: {', '.join(origin.shadowed)}.",
            "Remove one of the two, so that you do not correct the wrong one.",
            check=name,
        )
    return Outcome("pass", found, check=name)


def _together(problem: str) -> Outcome:
    return Outcome(
        "fail",
        problem,
        "Two settings contradict each other, or one does not fit the server.",
        "See docs/settings.md and correct it.",
        check="settings together",
    )


def _from_two_places(key_id: SettingOrigin, application_key: SettingOrigin) -> list[Outcome]:
    if "missing" in (key_id.source, application_key.source):
        return []
    return [
        Outcome(
            "warn",
            f"{key_id.where}, but {application_key.where}",
            "The two halves of the key come from two places and may belong to two keys.",
            "Keep both in one place.",
            check="key pair",
        )
    ]


async def key_form(context: DoctorContext) -> Outcome | None:
    """Check that the key has the form of B2's keys. Does not apply to other servers."""
    current = context.settings
    if current is None or current.key_id is None or current.application_key is None:
        return None
    key_id, secret = current.key_id, current.application_key.get_secret_value()
    region = b2_region(host_of(current.endpoint or ""))
    if region is None:
        return None
    if _PLACEHOLDER.search(key_id) or _PLACEHOLDER.search(secret):
        return failed(
            "The key is a placeholder from an example.",
            "Incorrect credentials.",
            "Create an application key on the console's page Application Keys; copy both parts.",
        )
    return _key_id_form(key_id) or _secret_form(secret) or _cluster(key_id, secret, region)


def _key_id_form(key_id: str) -> Outcome | None:
    if re.fullmatch(r"[0-9a-f]{12}", key_id, re.IGNORECASE):
        return failed(
            "BACKBLAZE_KEY_ID has 12 digits, so it is the ID of the master key.",
            'B2\'s S3 API refuses the master key: "Malformed Access Key Id".',
            "Create an application key on the console's page Application Keys.",
        )
    if _KEY_ID.fullmatch(key_id):
        return None
    return warned(
        f"BACKBLAZE_KEY_ID has {len(key_id)} characters, not 25 hexadecimal digits.",
        "It is cut off, belongs to another service, or is not a key ID.",
        "Copy keyID again from the console's page Application Keys.",
    )


def _secret_form(secret: str) -> Outcome | None:
    if _APPLICATION_KEY.fullmatch(secret):
        return None
    return warned(
        f"BACKBLAZE_APPLICATION_KEY has {len(secret)} characters. B2's keys have the form "
        "K, 3 digits, and 27 letters, digits, + or /.",
        "It is cut off, belongs to another service, or its + and / were changed by a tool.",
        "The console shows it only once: if it is lost, create a new key and delete the old one.",
    )


def _cluster(key_id: str, secret: str, region: str) -> Outcome:
    """Compare the cluster in the first digits of the key with the last digits of the region."""
    of_id, of_secret, of_region = key_id[:3], secret[1:4], region[-3:]
    if of_id != of_secret:
        return warned(
            f"The key ID belongs to cluster {of_id}, the application key to {of_secret}.",
            "They belong to two different keys.",
            "Copy both from the same key.",
        )
    if of_region.isdigit() and of_region != of_id:
        return warned(
            f"The key belongs to cluster {of_id}, the endpoint to region {region}.",
            "All buckets of an account are in one region; the endpoint is of another one.",
            "Set BACKBLAZE_ENDPOINT to the Endpoint that the console shows with the bucket.",
        )
    return passed(f"Looks like an application key of cluster {of_id}, like the endpoint.")
