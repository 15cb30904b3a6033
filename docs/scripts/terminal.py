"""Draw what the command prints in a terminal, as SVG: the pictures of README and docs.

    python docs/scripts/terminal.py             # demo and doctor
    python docs/scripts/terminal.py doctor

The commands run in a pseudo-terminal, against the embedded server. What differs from run to run is
replaced or left out, so that only a change of the command changes its picture: ports, times, IDs.
"""

from __future__ import annotations

import argparse
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
from collections.abc import Callable
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
_COLOR = r"(?:\x1b\[[0-9;]*m)*"
_DIFFERENT = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"127\.0\.0\.1:\d{5}", "127.0.0.1:12345"),
        (r"demo-[0-9a-f]{8}", "demo-3f9a61c2"),
        (r"\b1\d{12}-", "1795416819694-"),
        (r"(version_id\W.*?)[0-9a-f]{32}", r"\g<1>6713d52eb93f82ed520134b275c5bccc"),
        (r"\d{8}%2F", "20261123%2F"),
        (r"\d{8}T\d{6}Z", "20261123T065339Z"),
        (r"(X-Amz-Signature=)[0-9a-f]{64}", rf"\g<1>{'d3b283467790dc01' * 4}"),
        (r"\(\d+ ms\)", "(1 ms)"),
        # How fast a transfer or a step was says more about the machine.
        (rf"(?<= MiB){_COLOR} {_COLOR}[\d.]+ [KMG]iB/s.*", ""),
        (rf"(?m)^ *{_COLOR}\d+\.\d\d s{_COLOR} *\n?", ""),
        (r", \d+\.\d s\b", ""),
    )
]
_NOT_COLORS = re.compile(r"\x1b\[[?0-9;]*[A-ln-z]|\r")


def main() -> None:
    """Draw the chosen pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=list(PICTURES), help="all by default")
    for name in parser.parse_args().names:
        draw(name, PICTURES[name]())


def demo() -> str:
    """Return what the demo prints, shortened to what is new to a reader of README."""
    printed = run(["demo", "--local"], clean_environment())
    return "\n".join(steps(printed, DEMO_STEPS))


def doctor() -> str:
    """Return the doctor's report of a new bucket."""
    with LocalServer() as server:
        return run(["doctor"], clean_environment() | server.environment())


PICTURES: dict[str, Callable[[], str]] = {"demo": demo, "doctor": doctor}


def clean_environment() -> dict[str, str]:
    """Return the environment without settings of a bucket."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BACKBLAZE_")}


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


def steadied(printed: str) -> str:
    """Replace or leave out what differs from run to run."""
    for pattern, replacement in _DIFFERENT:
        printed = pattern.sub(replacement, printed)
    return printed


def draw(name: str, printed: str) -> None:
    """Write an SVG of a terminal window with this text."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(steadied(printed).strip("\n")))
    path = IMAGES / f"{name}.svg"
    console.save_svg(
        str(path), title=f"careflow-storage {name}", theme=DIMMED_MONOKAI, unique_id=name
    )
    print(path)


if __name__ == "__main__":
    main()
