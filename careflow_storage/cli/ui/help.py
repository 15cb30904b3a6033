"""How ``--help`` looks, and how commands are registered.

The help is written without rich: importing what typer needs of it takes longer than all the rest of
``--help``, and shells run the command at every TAB.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

F = TypeVar("F", bound=Callable[..., None])

_WIDTH = 100
_EXAMPLES = "Examples"
# What typer writes in brackets behind the help of a parameter.
_WORDING = (
    (re.compile(r"\bdefault: \(([^()]*)\)"), r"default: \1"),
    (re.compile(r"\b(\d+)<=x<=(\d+)\b"), r"\1 to \2"),
    (re.compile(r"\bx>=(\d+)\b"), r"at least \1"),
)


class Commands(typer.Typer):
    """A set of commands: the whole program, one of its groups, or commands that join another set.

    Args:
        summary: What the group is for; None for commands that join the set they are added to.
        options: Passed to `typer.Typer`.
    """

    def __init__(self, summary: str | None = None, **options: Any) -> None:
        super().__init__(
            help=summary,
            no_args_is_help=True,
            # None is plain text, which typer writes without rich.
            rich_markup_mode=None,
            **{"cls": HelpGroup, **options},
        )

    def add(
        self, name: str | None = None, *, section: str | None = None, examples: Sequence[str]
    ) -> Callable[[F], F]:
        """Register a function as a command.

        Args:
            name: The command's name; None for the function's.
            section: The heading in the group's ``--help`` below which the command is listed.
            examples: Command lines for the end of the command's ``--help``.
        """
        lines = "\n".join(f"  $ {line}" for line in examples)
        return self.command(
            name, cls=HelpCommand, rich_help_panel=section, epilog=f"{_EXAMPLES}:\n{lines}"
        )


class HelpCommand(TyperCommand):
    """A command with our layout of ``--help``."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, none of which loads pydantic without need."""
        return _load_pydantic_late(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line."""
        arguments = (each for each in self.params if each.param_type_name == "argument")
        return ["[OPTIONS]", *map(_usage_of, arguments)]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, description, arguments, options and examples."""
        _write_description(self, ctx, formatter)
        _write_parameters(self, ctx, formatter, "argument", "Arguments")
        _write_parameters(self, ctx, formatter, "option", "Options")
        _write_epilog(self, formatter)


class HelpGroup(TyperGroup):
    """A group of commands with our layout of ``--help``."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, none of which loads pydantic without need."""
        return _load_pydantic_late(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, description, the commands by section, and the options."""
        _write_description(self, ctx, formatter)
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            section = getattr(command, "rich_help_panel", None)
            heading = section if isinstance(section, str) else "Commands"
            sections.setdefault(heading, []).append((name, summary(command)))
        width = max(map(len, self.commands))
        for heading, rows in sections.items():
            # The same first column in all sections.
            _write_table(formatter, heading, [(f"{name:<{width}}", text) for name, text in rows])
        _write_parameters(self, ctx, formatter, "option", "Options")
        _write_epilog(self, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Print the help, on stdout, if the command line ends here."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), color=ctx.color)
            ctx.exit(2)
        return super().parse_args(ctx, args)


def _load_pydantic_late(parameters: list[Any]) -> list[Any]:
    """Let parameters convert only values that are given.

    typer loads pydantic, which takes longer than --help, to convert even a value that is missing.
    """
    for parameter in parameters:
        if not isinstance(parameter.process_value, partial):
            parameter.process_value = partial(_process_value, parameter, parameter.process_value)
    return parameters


def _process_value(
    parameter: Any, convert: Callable[[Any, Any], Any], context: Any, value: Any
) -> Any:
    if context.resilient_parsing:
        # The shell completes; nothing runs.
        return value
    if value is not None or parameter.required:
        return convert(context, value)
    value = () if parameter.multiple or parameter.nargs == -1 else None
    return value if parameter.callback is None else parameter.callback(context, parameter, value)


def _write_description(command: Any, context: Any, formatter: Any) -> None:
    command.format_usage(context, formatter)
    command.format_help_text(context, formatter)


def parameters(command: Any, context: Any, kind: str) -> list[tuple[str, str]]:
    """Return the names and the help of a command's parameters.

    Args:
        command: The command.
        context: Its context.
        kind: ``"argument"`` or ``"option"``.
    """
    rows = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and parameter.param_type_name == kind:
            rows.append((_name_of(parameter), _readable(record[1])))
    return rows


def _name_of(parameter: Any) -> str:
    """Return an argument's name, or an option's names and that of its value.

    typer's own wording differs between its releases.
    """
    if parameter.param_type_name == "argument":
        return str(parameter.metavar)
    # Short names come first.
    names = ", ".join(sorted(parameter.opts, key=lambda name: name.startswith("--")))
    return names if parameter.is_flag else f"{names} {parameter.metavar}"


def _usage_of(argument: Any) -> str:
    name = f"{argument.metavar}{'' if argument.nargs == 1 else '...'}"
    return name if argument.required else f"[{name}]"


def _write_parameters(command: Any, context: Any, formatter: Any, kind: str, heading: str) -> None:
    if rows := parameters(command, context, kind):
        _write_table(formatter, heading, rows)


def _readable(text: str) -> str:
    for pattern, replacement in _WORDING:
        text = pattern.sub(replacement, text)
    return text


def _write_table(formatter: Any, heading: str, rows: Sequence[tuple[str, str]]) -> None:
    with formatter.section(_styled(heading, bold=True)):
        formatter.write_dl([(_styled(name, fg="cyan"), text) for name, text in rows])


def _write_epilog(command: Any, formatter: Any) -> None:
    if command.epilog:
        heading, _, lines = command.epilog.partition(":\n")
        formatter.write(f"\n{_styled(heading, bold=True)}:\n{lines}\n")


def summary(command: Any) -> str:
    """Return the first paragraph of a command's help, in one line."""
    return " ".join((command.help or "").partition("\n\n")[0].split())


def _styled(text: str, **style: Any) -> str:
    """A text with colours, which typer takes out again unless stdout is a terminal."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return typer.style(text, **style)


CONTEXT_SETTINGS: dict[str, Any] = {
    "max_content_width": _WIDTH,
    # A command that has a -h of its own keeps it.
    "help_option_names": ["--help", "-h"],
}
"""Of the whole program: how wide ``--help`` becomes, and its names."""
