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
    r"answer(?:s|ed|ing)?": "response, respond",
    r"tells?|telling|told": "say, report, return, show, name",
    "nobody|somebody|anybody|everybody|whoever|who asks": "the caller, the server, the client, ...",
    "for ever": "permanently, without a limit",
    "so many": "this many, or the number",
    "patience|impatient": "timeout, limit",
    "strangers?": "untrusted client",
    "courier": "worker",
    "hygiene": "clean-up",
    "lineage": "naming",
    "examination": "context",
    "front door": "the module that users import",
    "once or twice": "say what decides it",
    "what is given": "the argument",
    "behind the back": "without the knowledge of",
    "in the house|of the house|of the floors?": "the package, the layer",
}
"""Each word, as a regular expression in lower case, and what to write instead."""

FILE_METHOD = re.compile(r"def tell\(|\btell\(\)|\"tell\"|\btell (?:=|is)|\(tell\)")
"""``tell`` of a file object."""

EXCEPTIONS: dict[str, tuple[str, ...]] = {
    # This file names the words.
    "docs/scripts/words.py": ("",),
    # The method of file objects.
    "docs/bodies.md": ("`tell` and `seek`",),
    # What a person types at a prompt is an answer.
    "docs/command-line.md": ("Answers to", "you answered no"),
    # Former names.
    "CHANGELOG.md": ("was called `answer`", "| `outbox/courier.py`"),
    "careflow_storage/migrate/harness.py": ("def answer(self)", "OldCodeFinding.answer is"),
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
        if any(part in line for part in allowed) or FILE_METHOD.search(line):
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
