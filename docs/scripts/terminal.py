"""Draw what the command prints in a terminal, as SVG: the pictures of README and docs.

    python docs/scripts/terminal.py       # writes docs/images/demo.svg and docs/images/doctor.svg

The commands run in a pseudo-terminal, against the embedded server.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from careflow_storage.local import LocalServer

IMAGES = Path(__file__).resolve().parents[1] / "images"
COLUMNS = 92
# The steps of the demo that the picture shows.
DEMO_STEPS = ("2", "5")
_STEP = re.compile(r"^(\d)  ")
# A line that is drawn again erases itself first.
_REDRAWN = re.compile(r"^.*\x1b\[2K", re.MULTILINE)
_NOT_COLORS = re.compile(r"\x1b\[[?0-9;]*[A-ln-z]|\r")


def main() -> None:
    """Draw all pictures."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("BACKBLAZE_")
    }
    demo = run(["demo", "--local"], environment)
    draw("careflow-storage demo", "\n".join(steps(demo, DEMO_STEPS)), IMAGES / "demo.svg")
    with LocalServer() as server:
        doctor = run(["doctor"], environment | server.environment())
    draw("careflow-storage doctor", doctor, IMAGES / "doctor.svg")


def run(arguments: list[str], environment: dict[str, str]) -> str:
    """Return what a command prints in a terminal: text with colors."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    command = [sys.executable, "-m", "careflow_storage", *arguments]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            command,
            stdin=its,
            stdout=its,
            stderr=its,
            cwd=folder,
            env=environment | {"TERM": "xterm-256color"},
        )
        os.close(its)
        printed = bytearray()
        # Linux reports the end of a pseudo-terminal as an error.
        while chunk := _read(ours):
            printed += chunk
        os.close(ours)
        process.wait()
    text = printed.decode("utf-8").replace("\r\n", "\n")
    text = _NOT_COLORS.sub("", _REDRAWN.sub("", text))
    return "".join(line for line in text.splitlines(keepends=True) if "Checking …" not in line)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


def steps(printed: str, numbers: tuple[str, ...]) -> list[str]:
    """Return the lines of these steps of the demo."""
    kept, inside = [], False
    for line in printed.splitlines():
        if found := _STEP.match(Text.from_ansi(line).plain):
            inside = found[1] in numbers
        if inside:
            kept.append(line)
    return kept


def draw(title: str, printed: str, path: Path) -> None:
    """Write an SVG of a terminal window with this text."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(printed.strip("\n")))
    console.save_svg(str(path), title=title, theme=DIMMED_MONOKAI)
    print(path)


if __name__ == "__main__":
    main()
