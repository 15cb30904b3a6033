"""What would change in a list of rules, shown before somebody is asked about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.text import Text

from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.confirm import confirm, confirm_by_typing
from careflow_storage.cli.ui.output import Output
from careflow_storage.models import Model


def show_changes(
    output: Output,
    before: Mapping[str, Model],
    after: Mapping[str, Model],
    in_words: Callable[[Model], str],
) -> None:
    """Print, on stderr, each rule that is added (+), removed (-) or changed (~)."""
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
    kind: str,
    bucket: str,
    before: Mapping[str, Model],
    after: Mapping[str, Model],
    *,
    yes: bool,
) -> None:
    """Ask whether to replace the rules; to remove all of them, the bucket's name must be typed.

    An empty list is what a file of another shape, or a program that failed, looks like.
    """
    if after:
        confirm(output, f"Set these {kind} rules of {bucket}?", yes=yes)
        return
    count = f"the only {kind} rule" if len(before) == 1 else f"all {len(before)} {kind} rules"
    question = f"The file has no rules. Remove {count} of {bucket}?"
    confirm_by_typing(output, question, bucket, yes=yes)


def _differences(old: Model, new: Model) -> list[str]:
    found = []
    for field, value in new:
        earlier = getattr(old, field)
        if earlier != value:
            found.append(f"{field}: {_shown(earlier)} -> {_shown(value)}")
    return found


def _shown(value: object) -> str:
    if value is None or value == ():
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _print(output: Output, marker: str, style: str, name: str, text: str) -> None:
    line = Text.assemble(
        (f"{marker} {clean(name) or '(everything)'}", style), (f"  {clean(text)}", "")
    )
    output.stderr.print(line, soft_wrap=not output.stderr.is_terminal)
