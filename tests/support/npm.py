"""npm packages as one script for a page."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

# Two workers may have to wait for one another, within the time limit of a test.
_SECONDS = 60
_failures: dict[Path, str] = {}
# Tests run without it; npm may need it.
_PROXY = {name: text for name, text in os.environ.items() if name.lower().endswith("_proxy")}


def bundle(source: Path) -> str:
    """Return the script that esbuild makes of ``entry.js`` in this folder.

    The packages are installed outside the repository, once for each content of the folder. Skip
    the test where npm is missing or cannot reach its registry.
    """
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs the program npm")
    files = [source / name for name in ("entry.js", "package.json", "package-lock.json")]
    if source in _failures:
        pytest.skip(_failures[source])
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    folder = Path.home() / ".cache/careflow-storage-tests" / f"{source.name}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "bundle.js"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not script.exists():
            failure = _make(npm, files, folder, script)
            if failure is not None:
                _failures[source] = failure
                pytest.skip(failure)
    return script.read_text(encoding="utf-8")


def _make(npm: str, files: list[Path], folder: Path, script: Path) -> str | None:
    """Make the script; return why the packages cannot be installed, or None."""
    for file in files:
        shutil.copy(file, folder)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    run = functools.partial(
        subprocess.run, cwd=folder, env=os.environ | _PROXY, check=True, timeout=_SECONDS
    )
    try:
        run(command, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        return f"npm cannot install {files[1]} within {_SECONDS} s"
    except subprocess.CalledProcessError as error:
        return f"npm cannot install {files[1]}: {error.stderr[-300:]}"
    command = ["node_modules/.bin/esbuild", files[0].name, "--bundle", "--format=iife"]
    run([*command, "--outfile=new.js", "--log-level=error"])
    (folder / "new.js").replace(script)
    return None
