"""npm packages as one script for a page."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest


def bundle(source: Path) -> str:
    """Return the script that esbuild makes of ``entry.js`` in this folder.

    The packages are installed outside the repository, once for each content of the folder. Skip
    the test where npm is missing.
    """
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs the program npm")
    files = [source / name for name in ("entry.js", "package.json", "package-lock.json")]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    folder = Path.home() / ".cache/careflow-storage-tests" / f"{source.name}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "bundle.js"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not script.exists():
            _make(npm, files, folder, script)
    return script.read_text(encoding="utf-8")


def _make(npm: str, files: list[Path], folder: Path, script: Path) -> None:
    for file in files:
        shutil.copy(file, folder)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install {files[1]}: {done.stderr[-300:]}")
    command = ["node_modules/.bin/esbuild", files[0].name, "--bundle", "--format=iife"]
    subprocess.run([*command, "--outfile=new.js", "--log-level=error"], cwd=folder, check=True)
    (folder / "new.js").replace(script)
