"""The objects that are copied: made before, compared afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from dataclasses import dataclass
from pathlib import Path

from benchmarks.model import MIB, Endpoint
from benchmarks.workloads.base import at_once
from careflow_storage import BackblazeStorage, FileInfo, StorageSettings

_AT_ONCE = 16
_READ_BACK = 2
_METADATA = {"agent": "Zoë", "call-id": "CA1"}
_CACHE = "private, max-age=60"
_TYPE = "audio/webm"


@dataclass(frozen=True, slots=True)
class Load:
    """So many objects of so many bytes, so many of which are copied at once."""

    name: str
    count: int
    size: int
    at_once: int

    @property
    def in_parts(self) -> bool:
        """Whether the objects are larger than a part."""
        return self.size > MIB

    @property
    def title(self) -> str:
        size = f"{self.size // MIB} MiB" if self.size >= MIB else f"{self.size // 1024} KiB"
        return f"{self.count:,} objects of {size}"


def open_storage(endpoint: Endpoint) -> BackblazeStorage:
    """Return a storage for a server."""
    return BackblazeStorage(
        StorageSettings(
            key_id=endpoint.key_id,
            application_key=endpoint.secret,
            bucket_name=endpoint.bucket,
            endpoint=endpoint.url,
            region=endpoint.region,
            _env_file=None,
        )
    )


def env_file(endpoint: Endpoint, path: Path) -> Path:
    """Write the settings of a server to an .env file."""
    variables = {
        "KEY_ID": endpoint.key_id,
        "APPLICATION_KEY": endpoint.secret,
        "BUCKET_NAME": endpoint.bucket,
        "ENDPOINT": endpoint.url,
        "REGION": endpoint.region,
    }
    lines = (f"BACKBLAZE_{name}={value}\n" for name, value in variables.items())
    path.write_text("".join(lines))
    path.chmod(0o600)
    return path


async def fill(endpoint: Endpoint, load: Load, folder: Path) -> None:
    """Store the objects: random bytes, ten to a call, all with type, metadata and cache header."""
    source = folder / "object.bin"
    if load.in_parts:
        block = os.urandom(MIB)
        with source.open("wb") as file:
            for number in range(load.size // MIB):
                file.write(number.to_bytes(8, "big") + block[8:])

    async with open_storage(endpoint) as storage:

        async def store(number: int) -> int:
            dice = random.Random(number)
            body = source if load.in_parts else dice.randbytes(load.size)
            key = f"recordings/CA{number // 10:06}/{1_700_000_000_000 + number}-call.webm"
            await storage.upload_file(
                key, body, content_type=_TYPE, metadata=_METADATA, cache_control=_CACHE
            )
            return 0

        await at_once(2 if load.in_parts else _AT_ONCE, load.count, store)
    source.unlink(missing_ok=True)


async def compare(source: Endpoint, target: Endpoint) -> str:
    """Compare all keys, sizes and, of objects in one piece, ETags; some objects byte by byte.

    Returns:
        What of type, metadata and cache header was kept.

    Raises:
        RuntimeError: The target is not a copy.
    """
    async with open_storage(source) as old, open_storage(target) as new:
        expected, found = [
            {file.key: file for file in await storage.list_files("recordings/")}
            for storage in (old, new)
        ]
        if expected.keys() != found.keys():
            raise RuntimeError(f"{len(found)} of {len(expected)} keys are there")
        differing = [key for key in expected if not _agree(expected[key], found[key])]
        if differing:
            raise RuntimeError(f"{len(differing)} objects differ, {differing[0]} among them")
        for key in list(expected)[:: max(1, len(expected) // _READ_BACK)]:
            hashes = await asyncio.gather(*(_hash(storage, key) for storage in (old, new)))
            if hashes[0] != hashes[1]:
                raise RuntimeError(f"the bytes of {key} differ")
        kept = await new.get_file_metadata(next(iter(expected)))
    parts = {
        "type": kept.content_type == _TYPE,
        "metadata": _METADATA.items() <= dict(kept.metadata).items(),
        "cache header": kept.cache_control == _CACHE,
    }
    return ", ".join(name for name, same in parts.items() if same) or "nothing"


def _agree(old: FileInfo, new: FileInfo) -> bool:
    in_parts = "-" in (old.etag or "-") or "-" in (new.etag or "-")
    return old.size == new.size and (in_parts or old.etag == new.etag)


async def _hash(storage: BackblazeStorage, key: str) -> str:
    """Return the SHA-256, read with a client that compares nothing by itself."""
    total = hashlib.sha256()
    client = await storage.client()
    found = await client.get_object(Bucket=storage.settings.bucket_name, Key=key)
    async for chunk in found["Body"].iter_chunks(MIB):
        total.update(chunk)
    return total.hexdigest()
