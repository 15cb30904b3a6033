"""The command ``careflow-storage``."""

from __future__ import annotations

import sys

from careflow_storage.cli.ui.cleaning import clean_reports_of_defects

# What the extra `cli` brings.
_NEEDED = {"rich", "typer"}


def main() -> None:
    """Run the command; exit code 2 and one line when its extra is not installed."""
    # Before typer takes note of it.
    clean_reports_of_defects()
    try:
        from careflow_storage.cli.app import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _NEEDED:
            raise
        sys.exit(_missing(error.name))
    except KeyboardInterrupt:
        # Before anything was begun.
        sys.exit(130)
    app()


def _missing(module: str) -> int:
    hint = 'pip install "careflow-storage[demo]"'
    print(f"careflow-storage: {module} is not installed. {hint}", file=sys.stderr)
    return 2
