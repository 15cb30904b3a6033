"""What people read in --help, --help-all and --man, with every release of typer alike."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.testing

from careflow_storage.cli.app import app
from careflow_storage.cli.exit_codes import EXIT_CODES
from tests.cli.test_docs import PAGE
from tests.support.command import COMMAND


def contexts(command: Any, name: str, parent: Any = None) -> Iterator[Any]:
    """The context of a command, and of each below it."""
    with command.make_context(name, [], parent=parent, resilient_parsing=True) as context:
        yield context
        for word, below in getattr(command, "commands", {}).items():
            yield from contexts(below, word, context)


# Of all commands; the text of --help without colours.
CONTEXTS = {each.command_path: each for each in contexts(COMMAND, "careflow-storage")}


def unstyled(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text)


@cache
def help_of(name: str) -> str:
    return unstyled(CONTEXTS[name].get_help())


def run(*arguments: str, **environment: str) -> str:
    result = typer.testing.CliRunner().invoke(app, arguments, env=environment)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def parameters(name: str, kind: str) -> list[Any]:
    command = CONTEXTS[name].command
    return [each for each in command.get_params(CONTEXTS[name]) if each.param_type_name == kind]


@pytest.mark.parametrize("name", CONTEXTS)
def test_options_are_shown_with_their_value_and_flags_without_one(name: str) -> None:
    help_text = help_of(name)
    for option in parameters(name, "option"):
        value = "" if option.is_flag else f" {re.escape(str(option.metavar))}"
        names = ", ".join(sorted(option.opts, key=len))
        assert re.search(rf"^  {names}{value}(  |$)", help_text, re.MULTILINE), option.opts
    assert not re.search(r"<bool|<text|<str|TEXT|\[(flag|bool)", help_text)


@pytest.mark.parametrize("name", CONTEXTS)
def test_arguments_have_one_name_in_the_usage_and_in_their_list(name: str) -> None:
    help_text = help_of(name)
    usage = help_text.partition("\n\n")[0]
    for argument in parameters(name, "argument"):
        assert re.search(rf"^  {re.escape(argument.metavar)}  ", help_text, re.MULTILINE)
        shown = f"{argument.metavar}{'' if argument.nargs == 1 else '...'}"
        assert (shown if argument.required else f"[{shown}]") in usage.split()


@pytest.mark.parametrize("name", CONTEXTS)
def test_help_has_a_short_name_unless_the_command_uses_it(name: str) -> None:
    own = {name for each in parameters(name, "option") if each.name != "help" for name in each.opts}
    help_text = help_of(name)
    assert ("  -h, --help" in help_text) is ("-h" not in own)
    assert "--help" in help_text


def test_one_page_has_the_help_of_all_commands() -> None:
    page = run("--help-all")
    for context in CONTEXTS.values():
        usage = help_of(context.command_path).partition("\n\n")[0]
        assert " ".join(usage.split()) in " ".join(page.split())


def test_the_manual_page_is_what_groff_reads_without_a_warning(tmp_path: Path) -> None:
    page = run("--man")
    for name, context in CONTEXTS.items():
        if name == "careflow-storage":
            continue
        assert f".SS {name}".replace("-", r"\-") in page
        assert context.command.help.split()[0] in page
    # A line that begins with one of these is a request to roff: only ours may be there.
    requests = {line.split()[0] for line in page.splitlines() if line.startswith((".", "'"))}
    assert requests == {".B", ".EE", ".EX", ".PP", ".SH", ".SS", ".TH", ".TP"}
    groff = shutil.which("groff")
    if groff is not None:
        (tmp_path / "page.1").write_text(page, encoding="utf-8")
        done = subprocess.run(
            [groff, "-man", "-ww", "-K", "utf8", "-T", "utf8", tmp_path / "page.1"],
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"Transfers were cleaned up." in done.stdout


def test_the_exit_codes_of_help_and_page_are_the_same() -> None:
    help_text = run("--help")
    rows = re.findall(
        r"^\| (\d[\d, ]*) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert dict(rows) == dict(EXIT_CODES)
    for code, meaning in EXIT_CODES:
        assert re.search(rf"^  {code} +{re.escape(meaning)}$", help_text, re.MULTILINE)


@pytest.mark.parametrize("arguments", [("--help",), ("ls", "--help"), ("--help-all",)])
def test_no_color_removes_the_colours_of_help(arguments: tuple[str, ...]) -> None:
    def colored(**environment: str) -> str:
        runner = typer.testing.CliRunner()
        return runner.invoke(app, arguments, env=environment, color=True).stdout

    assert "\x1b[" in colored(NO_COLOR="", TERM="xterm")
    assert "\x1b" not in colored(NO_COLOR="1")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ("upload", "a.wav", "--checksum", "sha1"),
            "'sha1' is not one of 'md5', 'crc32', 'sha256'",
        ),
        (("cors", "allow", "https://a.example", "--preset", "all"), "'all' is not one of 'put'"),
    ],
)
def test_a_wrong_value_is_refused_in_words_of_the_command(
    arguments: tuple[str, ...], reason: str
) -> None:
    result = typer.testing.CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    words = " ".join(unstyled(result.stderr).split())
    assert reason in words
    assert "Value error" not in words
