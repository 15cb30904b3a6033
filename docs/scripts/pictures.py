"""Make the pictures of README and docs again: ``nox -s pictures``.

    python docs/scripts/pictures.py                 # all, in about three minutes
    python docs/scripts/pictures.py demo scaling    # these

Each picture has one script that makes it. A second run changes no file, unless what a picture shows
has changed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent
MADE_BY = {
    "architecture.py": ("architecture.svg",),
    "charts.py": (
        *("download-tls.svg", "faults.svg", "jobs-scale.svg", "scaling.svg", "small-http.svg"),
        *("upload-tls.svg", "web-tls.svg"),
    ),
    "recordings_app.py": (
        *("recordings-app.png", "recordings-app-phone.png"),
        *("recordings-app-storage.png", "recordings-app-tablet.png"),
    ),
    "terminal.py": ("demo.svg", "doctor.svg"),
    "upload_trace.py": ("upload-trace.svg",),
}


def main() -> None:
    """Make the chosen pictures."""
    known = {Path(file).stem for files in MADE_BY.values() for file in files}
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="all by default")
    names = set(parser.parse_args().names)
    if unknown := names - known:
        parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(sorted(known))}")
    for script, files in MADE_BY.items():
        stems = [Path(file).stem for file in files]
        chosen = [stem for stem in stems if stem in names or not names]
        if chosen:
            arguments = chosen if len(stems) > 1 else []
            subprocess.run([sys.executable, SCRIPTS / script, *arguments], check=True)


if __name__ == "__main__":
    main()
