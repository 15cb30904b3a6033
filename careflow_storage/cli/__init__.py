"""The command ``careflow-storage``."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from careflow_storage.cli.ui.cleaning import clean_reports_of_defects

# What the extra `cli` installs. rich is needed once a command runs.
_NEEDED = ("typer", "rich")


def main() -> None:
    """Run the command; exit with 2 and one line of help if its extra is not installed."""
    # Before typer stores the hook that it finds.
    clean_reports_of_defects()
    for module in _NEEDED:
        if find_spec(module) is None:
            sys.exit(_report_missing(module))
    try:
        from careflow_storage.cli.app import app

        app()
    except KeyboardInterrupt:
        # Nothing has begun: commands handle Ctrl-C themselves.
        sys.exit(130)


def _report_missing(module: str) -> int:
    from careflow_storage._extras import install_line

    # The extra `demo` also installs a server and FFmpeg: hundreds of megabytes.
    extra = "demo" if sys.argv[1:2] == ["demo"] else "cli"
    print(f"careflow-storage: {module} is not installed. {install_line(extra)}", file=sys.stderr)
    return 2
