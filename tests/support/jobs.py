"""Two buckets for jobs, with the files that hold their credentials."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.jobs import CopyJob, JobReport, Location, ObjectError, VerifyJob


def location_of(settings: StorageSettings, file: Path) -> Location:
    """Write the settings to a file, as a user does, and return their location."""
    values = settings.model_dump(include=settings.model_fields_set)
    if settings.application_key is not None:
        values["application_key"] = settings.application_key.get_secret_value()
    lines = [f"BACKBLAZE_{name.upper()}={value}\n" for name, value in values.items() if value]
    file.write_text("".join(lines))
    return Location(env_file=file)


async def fill(storage: BackblazeStorage, bodies: Mapping[str, bytes]) -> None:
    """Store objects."""
    async with asyncio.TaskGroup() as group:
        for key, body in bodies.items():
            group.create_task(storage.upload_file(key, body))


def numbered(count: int, prefix: str = "recordings/") -> dict[str, bytes]:
    """Return that many keys with bodies that differ."""
    return {f"{prefix}CA{number:04}/call.webm": b"%d" % number for number in range(count)}


@dataclass(frozen=True)
class Buckets:
    """A source and a target: their locations for jobs, and open storages for the test."""

    source: Location
    target: Location
    source_storage: BackblazeStorage
    target_storage: BackblazeStorage

    def copy(self, prefix: str = "recordings/", **options: object) -> CopyJob:
        """Return a job that copies with small shards."""
        values = {"shard_keys": 5, **options}
        return CopyJob.model_validate(
            {"source": self.source, "target": self.target, "prefix": prefix, **values}
        )

    def verify(self, prefix: str = "recordings/", **options: object) -> VerifyJob:
        """Return a job that verifies with small shards."""
        values = {"shard_keys": 5, **options}
        return VerifyJob.model_validate(
            {"source": self.source, "target": self.target, "prefix": prefix, **values}
        )

    async def copies(self, prefix: str = "recordings/") -> dict[str, bytes]:
        """Return what the target holds below a prefix."""
        files = await self.target_storage.list_files(prefix)
        return {file.key: await self.target_storage.get_file(file.key) for file in files}


async def errors_of(storage: BackblazeStorage, report: JobReport) -> list[ObjectError]:
    """Return the errors in the files of a report, by key."""
    lines = [
        line for file in report.error_files for line in (await storage.get_file(file)).splitlines()
    ]
    return sorted(map(ObjectError.model_validate_json, lines), key=lambda error: error.key)
