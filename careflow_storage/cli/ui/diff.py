"""The changes to a list of rules, shown before the question whether to make them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from rich.text import Text

from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.confirm import confirm, confirm_by_typing
from careflow_storage.cli.ui.output import Output, counted
from careflow_storage.models import Model

M = TypeVar("M", bound=Model)


def show_changes(
    output: Output,
    before: Mapping[str, M],
    after: Mapping[str, M],
    in_words: Callable[[M], str],
) -> None:
    """Print to stderr each rule that is added (+), removed (-) or changed (~)."""
    if output.as_json:
        return
    for name, rule in before.items():
        if name not in after:
            _print(output, "-", "red", name, in_words(rule))
    for name, rule in after.items():
        if name not in before:
            _print(output, "+", "green", name, in_words(rule))
        elif before[name] != rule:
            for difference in _differences(before[name], rule):
                _print(output, "~", "yellow", name, difference)
    if list(before) != list(after) and before.keys() == after.keys():
        _print(output, "~", "yellow", "(order)", f"{', '.join(before)} -> {', '.join(after)}")


def confirm_changes(
    output: Output,
    noun: str,
    bucket: str,
    before: Mapping[str, Model],
    after: Mapping[str, Model],
    *,
    yes: bool,
) -> None:
    """Ask whether to replace the rules. To remove all of them, the user types the bucket's name.

    A file in another format, or the output of a program that failed, can look like an empty list.
    """
    if after:
        confirm(output, f"Set these {noun} rules for {bucket}?", yes=yes)
        return
    count = (
        f"the only {noun} rule"
        if len(before) == 1
        else f"all {counted(len(before), f'{noun} rule')}"
    )
    question = f"The file has no rules. Remove {count} of {bucket}?"
    confirm_by_typing(output, question, bucket, yes=yes)


def _differences(old: Model, new: Model) -> list[str]:
    return [
        f"{field}: {_shown(getattr(old, field))} -> {_shown(value)}"
        for field, value in new
        if getattr(old, field) != value
    ]


def _shown(value: object) -> str:
    if value is None or value == ():
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _print(output: Output, marker: str, style: str, name: str, text: str) -> None:
    line = Text.assemble(
        (f"{marker} {clean(name) or '(everything)'}", style), (f"  {clean(text)}", "")
    )
    output.stderr.print(line, soft_wrap=not output.stderr.is_terminal)
