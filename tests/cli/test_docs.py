"""The page about the command: complete, and every line of it can be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import COMMAND

# Options that print something, and need no command.
PAGES_OF_TEXT = (
    *("--help", "--help-all", "--man", "--version"),
    *("--install-completion", "--show-completion"),
)
PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"


def names_of(command: Any, name: str) -> Iterator[str]:
    """The name of every command that does something."""
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield name
        return
    for word, subcommand in subcommands.items():
        yield from names_of(subcommand, f"{name} {word}")


def typed_lines(text: str) -> Iterator[str]:
    """Every use of the command in the blocks and the tables, without what it is piped into."""
    blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    cells = re.findall(
        r"`(careflow-storage [^`]+)`",
        re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE),
    )
    for line in "\n".join([*blocks, *cells]).replace("\\\n", " ").splitlines():
        code = re.sub(r"(^|\s)#.*|\s\d?>&?\s?[^\s;]+", "", line)
        for found in re.findall(r"careflow-storage ((?:'[^']*'|\"[^\"]*\"|[^|;&)])*)", code):
            yield found.strip()


def parse(command: Any, name: str, arguments: Sequence[str]) -> None:
    """Parse without running; click's own errors come out."""
    with command.make_context(name, list(arguments)) as context:
        if hasattr(command, "commands"):
            rest = [*context._protected_args, *context.args]
            assert rest, f"{name} needs a command"
            _, subcommand, rest = command.resolve_command(context, rest)
            parse(subcommand, f"{name} {rest}", rest)


@pytest.mark.parametrize("name", sorted(names_of(COMMAND, "careflow-storage")))
def test_every_command_is_on_the_page(name: str) -> None:
    assert re.search(rf"{name}\b", PAGE.read_text(encoding="utf-8")), name


@pytest.mark.parametrize("line", sorted(set(typed_lines(PAGE.read_text(encoding="utf-8")))))
def test_every_line_on_the_page_can_be_typed(line: str, tmp_path: Path) -> None:
    for name in ("call.webm", "key.txt", "prod.env"):
        (tmp_path / name).write_text("x")
    arguments = shlex.split(line)
    if arguments and arguments[0] in PAGES_OF_TEXT:
        return
    parse(COMMAND, "careflow-storage", arguments)


@pytest.mark.parametrize("name", sorted(names_of(COMMAND, "careflow-storage")))
def test_every_command_has_json_a_sentence_and_an_example(name: str) -> None:
    command: Any = COMMAND
    for word in name.split()[1:]:
        command = command.commands[word]
    assert command.help
    assert "Examples" in command.epilog
    assert "--json" in {option for parameter in command.params for option in parameter.opts}
