"""What a copier verifies: a proxy flips one bit on the way, and the copies tell who noticed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.bulk.copiers import Copier, Task
from benchmarks.bulk.objects import Load, compare, fill
from benchmarks.bulk.servers import Server, seaweed
from benchmarks.bulk.tree import run_watched
from benchmarks.model import MIB
from careflow_storage.testing import FaultProxy

LOADS = (Load("small", 20, 4096, 4), Load("large", 1, 20 * MIB, 1))
WAYS: dict[str, dict[str, Any]] = {
    # Listings pass; a range has bytes of the object, too.
    "down": {"operation": "GetObject", "corrupt": 1000, "times": 1},
    "up": {"method": "PUT", "corrupt_upload": 1000, "times": 1},
}
_TIMEOUT_S = 300.0


def flips(copiers: Sequence[Copier], folder: Path) -> list[dict[str, str]]:
    """Copy under each flip; return what each copier made of it, by load and way."""
    results: list[dict[str, str]] = [{"copier": copier.label} for copier in copiers]
    for load in LOADS:
        with seaweed(folder / "source") as source:
            asyncio.run(fill(source.endpoint, load, folder))
            for copier, result in zip(copiers, results, strict=True):
                for way in WAYS:
                    outcome = asyncio.run(_flip(copier, source, load, way, folder))
                    result[f"{load.name}, {way}"] = outcome
    return results


async def _flip(copier: Copier, source: Server, load: Load, way: str, folder: Path) -> str:
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    with seaweed(folder / "target") as target:
        upstream = source if way == "down" else target
        async with FaultProxy(upstream.endpoint.url) as proxy:
            rule = proxy.add(**WAYS[way], key=r"^recordings/")
            through = replace(upstream.endpoint, url=proxy.url)
            ends = (through, target.endpoint) if way == "down" else (source.endpoint, through)
            task = Task(*ends, load, work)
            try:
                for command in copier.commands(task):
                    await asyncio.to_thread(
                        run_watched, command.words, command.environment, work, _TIMEOUT_S
                    )
            except RuntimeError:
                return "reported"
            if not rule.hits:
                raise RuntimeError(f"{copier.label}: no bit was flipped")
        try:
            await compare(source.endpoint, target.endpoint)
        except RuntimeError:
            return "stored wrong bytes"
        return "repaired"
