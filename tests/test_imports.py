"""Every module can be the first one that a program imports.

A circular import works or fails by the order of the imports: it shows only where a certain
module of the circle comes first.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# A fresh interpreter for each module would load the same 200 modules hundreds of times. Whatever
# comes first, Python imports the package itself before it; all that this has not loaded is
# forgotten again between two imports.
SCRIPT = """
import importlib, json, pkgutil, sys, traceback
import careflow_storage

def ours():
    return {name for name in sys.modules if name.partition(".")[0] == "careflow_storage"}

def forget(name):
    del sys.modules[name]
    parent, _, attribute = name.rpartition(".")
    if parent in sys.modules:
        vars(sys.modules[parent]).pop(attribute, None)

always, failed, imported = ours(), {}, 0
for found in pkgutil.walk_packages(careflow_storage.__path__, "careflow_storage."):
    for name in sorted(ours() - always, key=len, reverse=True):
        forget(name)
    if found.name.endswith(".__main__"):
        continue  # importing it starts the command
    try:
        importlib.import_module(found.name)
        imported += 1
    except BaseException:
        failed[found.name] = traceback.format_exc(limit=-3)
json.dump({"failed": failed, "imported": imported}, sys.stdout)
"""


# In CI import-linter finds circles, in seconds; this takes a minute.
@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
def test_each_module_can_be_imported_first() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert not result["failed"], "\n".join(result["failed"].values())
    assert result["imported"] > 200
