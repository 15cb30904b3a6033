"""All commands on one page: as text for ``--help-all``, and as a manual page for ``--man``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from careflow_storage.cli.exit_codes import EXIT_CODES
from careflow_storage.cli.ui.help import parameters, summary

_LINE = "-" * 72


def help_of_all(context: Any) -> str:
    """Return the ``--help`` of the program and of each of its commands."""
    return f"\n\n{_LINE}\n\n".join(each.get_help() for each in _contexts(context))


def man_page(context: Any, version: str) -> str:
    """Return a manual page of section 1, in the ``man`` macros of roff."""
    program, *commands = _contexts(context)
    name = program.info_name
    lines = [
        f'.TH {_roff(name.upper())} 1 "" "{_roff(name)} {_roff(version)}"',
        *(".SH NAME", f"{_roff(name)} \\- {_roff(summary(program.command))}"),
        *(".SH SYNOPSIS", f".B {_roff(name)}", "[OPTIONS] COMMAND [ARGS]..."),
        *(".SH OPTIONS", *_definitions(parameters(program.command, program, "option"))),
        ".SH COMMANDS",
    ]
    for each in commands:
        lines += _command(each)
    lines += [".SH EXIT STATUS", *_definitions(EXIT_CODES)]
    lines += [
        ".SH ENVIRONMENT",
        *_definitions(
            (
                ("BACKBLAZE_*", "The settings. See careflow-storage config --all."),
                ("NO_COLOR", "If it is set, nothing is coloured."),
                ("COLUMNS", "The width of the terminal, if it cannot be detected."),
            )
        ),
    ]
    return "\n".join(lines)


def _contexts(context: Any) -> Iterator[Any]:
    """Yield the context of a command, and of all below it."""
    yield context
    for name, command in getattr(context.command, "commands", {}).items():
        # Nothing is parsed.
        with command.make_context(name, [], parent=context, resilient_parsing=True) as below:
            yield from _contexts(below)


def _command(context: Any) -> Iterator[str]:
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f".SS {_roff(usage)}"
    for paragraph in (command.help or "").split("\n\n"):
        yield from (_roff(" ".join(paragraph.split())), ".PP")
    for kind in ("argument", "option"):
        yield from _definitions(parameters(command, context, kind))
    if command.epilog:
        heading, _, examples = command.epilog.partition(":\n")
        yield from (".PP", f"{_roff(heading)}:", ".EX", *map(_roff, examples.split("\n")), ".EE")


def _definitions(rows: Any) -> Iterator[str]:
    for name, text in rows:
        yield from (".TP", f".B {_roff(name)}", _roff(" ".join(text.split())))


def _roff(text: str) -> str:
    """Escape a line of text, also one that begins like a macro."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
