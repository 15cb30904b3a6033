"""Which tests execute a line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from coverage import CoverageData

PACKAGE = "careflow_storage"
PYTEST = (
    *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
    *("-m", "not integration and not slow and not browser", "-n", "2", "--dist", "loadfile"),
)


class TestsOfLines:
    """The tests that executed each line in one run of all of them."""

    __test__ = False

    def __init__(self, record: Path) -> None:
        """Read what `record_tests` wrote."""
        data = CoverageData(str(record))
        data.read()
        self._files = {
            file[file.rindex(f"{PACKAGE}/") :]: data.contexts_by_lineno(file)
            for file in data.measured_files()
        }

    def of(self, path: str, line: int) -> list[str]:
        """Return the tests that execute the line, without their parameters.

        A line that only an import executes, such as a constant, belongs to no test.
        """
        contexts = self._files.get(path, {}).get(line, [])
        return sorted({name.rpartition("|")[0].partition("[")[0] for name in contexts} - {""})


def record_tests(tree: Path, folders: Sequence[str], record: Path) -> None:
    """Run the fast tests of ``folders`` and write to ``record`` which lines each executes."""
    options = tree / "coverage.ini"
    options.write_text(f"[run]\nparallel = true\ndata_file = {record}\n", encoding="utf-8")
    result = subprocess.run(
        [
            *(*PYTEST, *folders, f"--cov={PACKAGE}", f"--cov-config={options}"),
            *("--cov-context=test", "--cov-report="),
        ],
        cwd=tree,
        # The core of newer Pythons cannot tell tests apart.
        env=environment(tree) | {"COVERAGE_CORE": "ctrace"},
        check=False,
    )
    if result.returncode != 0:
        sys.exit("Without any change, the tests fail.")


def environment(tree: Path) -> dict[str, str]:
    """Return the environment in which Python imports the package from ``tree``."""
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
