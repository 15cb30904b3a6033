"""What `cors` and `lifecycle` have in common: show, replace and remove the rules of a bucket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from careflow_storage import BackblazeStorage
from careflow_storage.admin import StorageAdmin
from careflow_storage.cli.exit_codes import NOT_FOUND
from careflow_storage.cli.ui.confirm import confirm
from careflow_storage.cli.ui.diff import confirm_changes, show_changes
from careflow_storage.cli.ui.output import Output, counted
from careflow_storage.cli.ui.rule_files import read_rules_text
from careflow_storage.models import Model

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class RuleKind(Generic[M]):
    """A kind of bucket rules.

    Args:
        noun: What messages call the kind.
        load: Returns the rules of the bucket.
        store: Replaces the rules of the bucket.
        remove: Removes the named rule of the bucket, and returns the rest.
        parse: Reads rules from JSON; raises `InvalidInputError` for anything else.
        check: Raises `InvalidInputError` if rules cannot be set.
        same: Whether two lists of rules have the same effect.
        name: Returns what `remove` calls a rule.
        by_name: Returns rules by the names with which changes are shown.
        in_words: Returns a rule in one line.
        print: Prints rules for people.
        removal_question: Returns the question before the named rule is removed.
        title: Returns what messages call the named rule.
    """

    noun: str
    load: Callable[[StorageAdmin], Awaitable[list[M]]]
    store: Callable[[StorageAdmin, Sequence[M]], Awaitable[object]]
    remove: Callable[[StorageAdmin, str], Awaitable[list[M]]]
    parse: Callable[[str], list[M]]
    check: Callable[[Sequence[M]], object]
    same: Callable[[Sequence[M], Sequence[M]], bool]
    name: Callable[[M], str]
    by_name: Callable[[Sequence[M]], dict[str, M]]
    in_words: Callable[[M], str]
    print: Callable[[Output, Sequence[M]], None]
    removal_question: Callable[[str], str]
    title: Callable[[str], str] = str


async def show_rules(storage: BackblazeStorage, output: Output, kind: RuleKind[M]) -> None:
    """Print the rules of the bucket."""
    print_rules(output, kind, await kind.load(storage.admin))


async def replace_rules(
    storage: BackblazeStorage, output: Output, kind: RuleKind[M], file: Path, *, yes: bool
) -> None:
    """Set the rules of a file, after showing what changes and asking."""
    rules = kind.parse(await asyncio.to_thread(read_rules_text, file))
    before = await kind.load(storage.admin)
    if kind.same(before, rules):
        output.items(rules)
        output.note("The bucket already has these rules.")
        return
    # Before the changes are shown: rules that cannot be set need no question.
    kind.check(rules)
    old, new = kind.by_name(before), kind.by_name(rules)
    show_changes(output, old, new, kind.in_words)
    bucket = str(storage.settings.bucket_name)
    confirm_changes(output, kind.noun, bucket, old, new, yes=yes)
    await kind.store(storage.admin, rules)
    print_rules(output, kind, rules)
    output.done(f"Set {_count(kind, rules)}.")


async def remove_rule(
    storage: BackblazeStorage, output: Output, kind: RuleKind[M], name: str, *, yes: bool
) -> int | None:
    """Remove one rule, after showing it and asking; return an exit code if it does not exist."""
    rules = await kind.load(storage.admin)
    found = [each for each in rules if kind.name(each) == name]
    if not found:
        output.items(rules)
        output.warn(f"There is no {kind.noun} rule {kind.title(name)}.")
        return NOT_FOUND
    show_changes(output, kind.by_name(found), {}, kind.in_words)
    confirm(output, kind.removal_question(name), yes=yes)
    left = await kind.remove(storage.admin, name)
    output.items(left)
    output.done(f"Removed the {kind.noun} rule {kind.title(name)}; {_count(kind, left)} left.")
    return None


def print_rules(output: Output, kind: RuleKind[M], rules: Sequence[M]) -> None:
    """Print rules, for people or as JSON."""
    output.items(rules)
    if not output.as_json:
        kind.print(output, rules)


def _count(kind: RuleKind[M], rules: Sequence[M]) -> str:
    return counted(len(rules), f"{kind.noun} rule")
