"""A process that watches what its first calls import, and in which thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from careflow_storage.testing import B2Server

SCRIPT = """
import asyncio, importlib.abc, json, sys, tempfile, threading
from datetime import timedelta
from pathlib import Path

from careflow_storage import BackblazeStorage

on_loop, elsewhere = [], []


class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        here = threading.current_thread() is threading.main_thread()
        (on_loop if here else elsewhere).append(name)
        return None


async def main(folder):
    {before}
    async with BackblazeStorage() as storage:
        await storage.upload_file("stored", b"RIFF....WAVE", "audio/wav")
        sys.meta_path.insert(0, Watch())
        {calls}
        sys.meta_path.pop(0)
    print(json.dumps([on_loop, elsewhere]))


with tempfile.TemporaryDirectory() as name:
    asyncio.run(main(Path(name)))
"""


@dataclass(frozen=True)
class Imports:
    """The modules that the calls imported: on the event loop, and in other threads."""

    on_loop: set[str]
    elsewhere: set[str]


def imports_of(server: B2Server, *calls: str, before: str = "pass") -> Imports:
    """Run the calls, lines of Python with a ``storage`` and a ``folder``, in a new process."""
    indent = "\n        "
    script = SCRIPT.format(before=before, calls=indent.join("\n".join(calls).splitlines()))
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **server.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    on_loop, elsewhere = map(set, json.loads(done.stdout))
    return Imports(on_loop, elsewhere)
