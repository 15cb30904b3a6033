"""Find words that the project does not use, and name the better one.

    python docs/scripts/words.py              # everything below
    python docs/scripts/words.py README.md    # some files

It reads the prose of the documents, and of the package its docstrings, comments, messages and
names. `EXCEPTIONS` lists, one by one, the places where a word is the right one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACES = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "noxfile.py"),
    *("docs", "examples", "careflow_storage"),
)
SUFFIXES = {".md", ".py"}

WORDS = {
    "courier": "worker",
    "examination": "context",
    "front door": "the module that users import",
    "what is given": "the argument",
    "in the house|of the house": "the package",
}
"""Each word, as a regular expression in lower case, and what to write instead."""

EXCEPTIONS: dict[str, tuple[str, ...]] = {
    # This file names the words.
    "docs/scripts/words.py": ("",),
}
"""For each file, parts of the lines in which a word may stand."""

PATTERN = re.compile(
    "|".join(rf"(?<![a-z])(?P<w{n}>{word})(?![a-z])" for n, word in enumerate(WORDS)),
)
BETTER = list(WORDS.values())


def files(arguments: list[str]) -> Iterable[Path]:
    """Return the named files, or all of them."""
    if arguments:
        return [Path(each).resolve() for each in arguments]
    found = (ROOT / place for place in PLACES)
    return sorted(
        file
        for place in found
        for file in ([place] if place.is_file() else place.rglob("*"))
        if file.suffix in SUFFIXES
    )


def findings(file: Path) -> Iterator[str]:
    """Report each word with its line, and the word to use instead."""
    name = file.relative_to(ROOT).as_posix()
    allowed = EXCEPTIONS.get(name, ())
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if any(part in line for part in allowed):
            continue
        for found in PATTERN.finditer(separated(line)):
            better = BETTER[int((found.lastgroup or "w0")[1:])]
            yield f"{name}:{number}: {found[0]!r} -> {better}"


def separated(line: str) -> str:
    """Return the line in lower case, with spaces between the words of ``names_like_this``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", line).lower()


def main() -> int:
    """Print what is found; the exit code is 1 if there is anything."""
    found = [line for file in files(sys.argv[1:]) for line in findings(file)]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
