"""What --help and the shell's completion import: nothing that a person would have to wait for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import typer.main

from careflow_storage import __version__
from careflow_storage.cli import main
from tests.cli.test_docs import names_of
from tests.support.command import COMMAND

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(names_of(COMMAND, "careflow-storage"))
GROUPS = sorted({name.rpartition(" ")[0] for name in COMMANDS})

HEAVY = {
    *("aioboto3", "aiobotocore", "aiohttp", "asyncio", "boto3", "botocore", "multidict"),
    *("pydantic", "pydantic_core", "pydantic_settings", "rich", "ssl", "yarl"),
}
# Runs command lines one after another; stdin holds them, each with its environment.
SCRIPT = """
import contextlib, functools, io, json, os, sys
import careflow_storage
root = set(sys.modules)
from careflow_storage.cli import main
import typer.main

# Built once, not for each command line.
typer.main.get_command = functools.cache(typer.main.get_command)

results = []
for arguments, environment in json.loads(sys.stdin.readline()):
    os.environ.update(environment)
    sys.argv = ["careflow-storage", *arguments]
    code = None
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try:
            main()
        except SystemExit as end:
            code = end.code
    results.append((code, output.getvalue()))
of_the_library = [name for name in set(sys.modules) - root if name.startswith("careflow_storage.")]
print(json.dumps([results, of_the_library, sorted(sys.modules)]))
"""


def run_all(lines: list[tuple[list[str], dict[str, str]]]) -> tuple[list[Any], set[str]]:
    """Run command lines in one process; return their results, and the heavy modules it imported."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        input=json.dumps(lines) + "\n",
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_COLOR": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results, of_the_library, modules = json.loads(done.stdout)
    command = re.compile(r"careflow_storage\.cli($|\.(app|context|commands|exit_codes|ui)\b)")
    heavy = HEAVY.intersection(modules) | {
        each for each in of_the_library if not command.match(each)
    }
    return results, heavy


def completing(words: str) -> tuple[list[str], dict[str, str]]:
    """What bash asks for when TAB is pressed after these words."""
    return [], {
        "_CAREFLOW_STORAGE_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }


def test_help_and_the_version_import_nothing_heavy() -> None:
    names = [*GROUPS, *COMMANDS]
    lines = [[*name.split()[1:], "--help"] for name in names]
    results, heavy = run_all([(line, {}) for line in (*lines, ["--version"], [])])
    assert heavy == set()
    for name, (code, output) in zip(names, results, strict=False):
        assert code == 0, name
        assert output.startswith(f"Usage: {name}"), output
        assert "--help" in output
    (version_code, version), (bare_code, bare) = results[-2:]
    assert (version_code, version[0].isdigit()) == (0, True)
    assert (bare_code, bare) == (2, results[names.index("careflow-storage")][1])


def test_completion_of_every_command_imports_nothing_heavy() -> None:
    results, heavy = run_all([completing(f"{name} --") for name in COMMANDS])
    assert heavy == set()
    for name, (code, output) in zip(COMMANDS, results, strict=True):
        assert code == 0, name
        assert "--json" in output.split(), name


def test_completion_offers_commands_and_choices() -> None:
    expected = {
        "careflow-storage up": {"upload", "uploads"},
        "careflow-storage keys ": {"create", "list", "rotate", "finish", "delete"},
        "careflow-storage upload --checksum ": {"md5", "crc32", "sha256"},
    }
    results, heavy = run_all([completing(words) for words in expected])
    assert heavy == set()
    assert [set(output.split()) for _, output in results] == list(expected.values())


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "careflow_storage", "--version"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


def test_a_command_that_runs_is_not_light() -> None:
    """Or the tests above would prove nothing."""
    _, heavy = run_all([(["config", "--json"], {})])
    assert {"asyncio", "pydantic", "rich", "careflow_storage.settings"} <= heavy


def test_serve_local_imports_no_http_client() -> None:
    # It ends before the server starts: a bucket cannot have this name.
    arguments = ["serve-local", "--bucket", "NOT ALLOWED"]
    ((code, _),), heavy = run_all([(arguments, {})])
    assert code == 2
    assert not heavy & {"aioboto3", "aiobotocore", "aiohttp", "boto3", "botocore"}


def test_ctrl_c_before_a_command_runs_ends_it_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    # What typer does first: it makes the commands of the app.
    monkeypatch.setattr(typer.main, "get_command", interrupted)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
