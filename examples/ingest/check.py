"""Compares the bucket with what the provider has."""

from __future__ import annotations

from collections import Counter

from careflow_storage import BackblazeStorage
from examples.ingest.provider import recording


async def check(storage: BackblazeStorage, recordings: int) -> dict[str, int]:
    """Return the rows of the table that are about the bucket."""
    expected = {f"RE{number}": recording(number) for number in range(recordings)}
    whole: Counter[str] = Counter()
    cut_off = 0
    async for version in storage.admin.list_file_versions():
        data = await storage.get_file(version.key, version_id=version.version_id, verify=False)
        sid = version.key.rpartition("-")[2].removesuffix(".wav")
        if data == expected.get(sid):
            whole[sid] += 1
        else:
            # The server keeps what has arrived of a PUT whose sender was killed. B2 does not.
            cut_off += 1
    stored = {
        file.key.rpartition("-")[2].removesuffix(".wav"): await storage.get_file(file.key)
        for file in await storage.list_files()
    }
    return {
        "files in the bucket": len(stored),
        "byte for byte": sum(stored.get(sid) == data for sid, data in expected.items()),
        "lost": len(expected.keys() - stored.keys()),
        "most versions of a recording": max(whole.values(), default=0),
        "uploads left over": len(await storage.list_incomplete_uploads()),
        "cut-off versions": cut_off,
    }


def is_right(rows: dict[str, int]) -> bool:
    """Whether every recording is in the bucket once, byte for byte."""
    wanted = rows["recordings"]
    return (
        rows["byte for byte"] == rows["files in the bucket"] == wanted
        and rows["most versions of a recording"] == 1
        and not rows.get("dead letters")
    )
