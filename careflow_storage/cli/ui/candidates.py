"""Finds the keys, buckets and IDs that the shell offers at TAB."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.jobs import Location
from careflow_storage.settings import settings_from_environment

Kind = Literal[
    "buckets",
    "hidden keys",
    "jobs",
    "keys",
    "source keys",
    "upload keys",
    "uploads",
    "versions",
]

# Shells take these characters as they are. bash splits words at others, and zsh evaluates them.
_PLAIN = re.compile(r"[\w./+,%][\w./+,%-]*")
_MOST = 1000
_JOBS = "jobs/"


def offered(kind: Kind, incomplete: str, given: Mapping[str, Any], *, timeout: float) -> list[str]:
    """Return what begins with ``incomplete``, sorted; only what every shell takes as it is.

    Args:
        kind: What is asked for.
        incomplete: The word so far.
        given: The options and arguments before it, unparsed, by name.
        timeout: The most seconds for all requests.

    Raises:
        StorageError: The settings are incomplete, or the server refuses.
        TimeoutError: The server has not responded in time.
    """
    found = asyncio.run(asyncio.wait_for(_found(kind, incomplete, given), timeout))
    return sorted(
        {each for each in found if each.startswith(incomplete) and _PLAIN.fullmatch(each)}
    )


async def _found(kind: Kind, incomplete: str, given: Mapping[str, Any]) -> Iterable[str]:
    async with BackblazeStorage(_settings(kind, given)) as storage:
        key = str(given.get("key") or "")
        if kind == "buckets":
            return [each.name for each in await storage.admin.list_buckets()]
        if kind == "versions":
            versions = await storage.admin.list_file_versions(key, _MOST)
            return [str(each.version_id) for each in versions if each.key == key]
        if kind == "hidden keys":
            versions = await storage.admin.list_file_versions(incomplete, _MOST)
            return _to_next_slash(incomplete, [each.key for each in versions])
        if kind == "uploads":
            uploads = await storage.list_incomplete_uploads(key)
            return [each.upload_id for each in uploads if each.key == key]
        if kind == "upload keys":
            uploads = await storage.list_incomplete_uploads(incomplete)
            return _to_next_slash(incomplete, [each.key for each in uploads])
        if kind == "jobs":
            folder = await storage.list_folder(_JOBS)
            return [each.removeprefix(_JOBS).rstrip("/") for each in folder.common_prefixes]
        return await _keys(storage, incomplete)


def _settings(kind: Kind, given: Mapping[str, Any]) -> StorageSettings:
    bucket = None if kind == "buckets" else given.get("bucket")
    jobs_file = given.get("to_env")
    if kind == "source keys" and "from_env" in given:
        jobs_file = given["from_env"]
    if jobs_file is not None:
        # The settings of a job come from its file alone.
        return Location(env_file=Path(jobs_file), bucket=bucket).settings()
    env_file = given.get("env_file")
    options = {"_env_file": env_file, "bucket_name": bucket}
    return settings_from_environment(
        **{name: value for name, value in options.items() if value is not None}
    )


async def _keys(storage: BackblazeStorage, prefix: str) -> list[str]:
    """Return the keys and folders up to the next slash.

    1 request, and 1 for each folder that is alone in its own: the shell would only ask again.
    """
    while True:
        found: list[str] = []
        async for page in storage.list_folder(prefix).pages():
            found = [*page.common_prefixes, *(file.key for file in page.files)]
            break
        if len(found) != 1 or not found[0].endswith("/") or found[0] == prefix:
            return found
        prefix = found[0]


def _to_next_slash(prefix: str, keys: Iterable[str]) -> list[str]:
    ends = ((key, key.find("/", len(prefix)) + 1) for key in keys)
    return [key[:end] if end else key for key, end in ends]
