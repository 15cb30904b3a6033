"""What ``careflow-storage lifecycle`` does and prints."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from careflow_storage import BackblazeStorage
from careflow_storage.admin import LifecycleRule
from careflow_storage.admin.lifecycle import check_rules
from careflow_storage.cli.run import NOT_THERE
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.confirm import confirm
from careflow_storage.cli.ui.diff import confirm_changes, show_changes
from careflow_storage.cli.ui.durations import days_in_words
from careflow_storage.cli.ui.output import Output
from careflow_storage.cli.ui.rule_files import lifecycle_rules, read_rules_text
from careflow_storage.models import Model

_NO_RULES = "There are no lifecycle rules: everything is kept, and billed, for ever."


async def show_rules(storage: BackblazeStorage, output: Output) -> None:
    """Print the rules."""
    _print_rules(output, await storage.admin.get_lifecycle_rules())


@dataclass(frozen=True)
class Expiry:
    """How long files below a prefix are to be kept."""

    prefix: str
    hide_after_days: int | None
    erase_after_days: int | None
    cancel_unfinished_after_days: int | None
    yes: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Ask, since it is true of what is stored already; set it.

        What the prefix's rule does today and is not given ends, so that is asked, too.
        """
        rule = LifecycleRule(
            prefix=self.prefix,
            hide_after_days=self.hide_after_days,
            erase_after_days=self.erase_after_days,
            cancel_unfinished_after_days=self.cancel_unfinished_after_days,
        )
        before = [
            each
            for each in await storage.admin.get_lifecycle_rules()
            if each.prefix == self.prefix and each != rule
        ]
        if before:
            show_changes(output, _by_prefix(before), _by_prefix([rule]), in_words)
        if before or self.hide_after_days is not None or self.erase_after_days is not None:
            question = f"Files below {_named(self.prefix)}, old ones too: {in_words(rule)}. Set it?"
            confirm(output, question, yes=self.yes)
        rules = await storage.admin.expire_recordings(
            prefix=self.prefix,
            hide_after_days=self.hide_after_days,
            erase_after_days=self.erase_after_days,
            cancel_unfinished_after_days=self.cancel_unfinished_after_days,
        )
        _print_rules(output, rules)
        output.done(f"Set the rule of {_named(self.prefix)}.")


@dataclass(frozen=True)
class Replacement:
    """Rules of a file, for those that are there."""

    file: Path
    yes: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Show what changes, ask, set."""
        rules = lifecycle_rules(await asyncio.to_thread(read_rules_text, self.file))
        before = await storage.admin.get_lifecycle_rules()
        if len(before) == len(rules) and _by_prefix(before) == _by_prefix(rules):
            output.data(rules)
            output.note("The bucket has these rules already.")
            return
        # Of what cannot be set nothing is shown and asked.
        check_rules(rules)
        earlier, later = _by_prefix(before), _by_prefix(rules)
        show_changes(output, earlier, later, in_words)
        bucket = str(storage.settings.bucket_name)
        confirm_changes(output, "lifecycle", bucket, earlier, later, yes=self.yes)
        await storage.admin.set_lifecycle_rules(rules)
        _print_rules(output, rules)
        output.done(f"Set {_count(rules)}.")


@dataclass(frozen=True)
class Removal:
    """The rule of a prefix that is to go."""

    prefix: str
    yes: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> int | None:
        """Show it, ask, take it away."""
        rules = await storage.admin.get_lifecycle_rules()
        found = [each for each in rules if each.prefix == self.prefix]
        if not found:
            output.data(rules)
            output.warn(f"There is no lifecycle rule of the prefix {self.prefix!r}.")
            return NOT_THERE
        show_changes(output, _by_prefix(found), {}, in_words)
        question = f"Keep the files below {_named(self.prefix)} for ever?"
        confirm(output, question, yes=self.yes)
        left = await storage.admin.remove_lifecycle_rule(self.prefix)
        output.data(left)
        output.done(f"Removed the rule of {_named(self.prefix)}; {_count(left)} left.")
        return None


def in_words(rule: Model) -> str:
    """What happens to a file: "hidden 365 days after upload, erased 30 days later"."""
    clocks = rule.model_dump()
    hide, erase = clocks["hide_after_days"], clocks["erase_after_days"]
    cancel = clocks["cancel_unfinished_after_days"]
    said = []
    if hide is not None:
        said.append(f"hidden {days_in_words(hide)} after upload")
    if erase is not None:
        later = f"{days_in_words(erase)} later" if hide is not None else ""
        alone = f"{days_in_words(erase)} after it is deleted or overwritten"
        said.append(f"erased {later or alone}")
    elif hide is not None:
        said.append("never erased")
    if cancel is not None:
        said.append(f"unfinished uploads given up after {days_in_words(cancel)}")
    return ", ".join([*said, *clocks["unsupported"]])


def _print_rules(output: Output, rules: Sequence[LifecycleRule]) -> None:
    output.data(rules)
    if not rules:
        output.note(_NO_RULES)
        return
    output.table(
        ("prefix", "what happens to a file"),
        ((Text(_named(clean(each.prefix)), "cyan"), in_words(each)) for each in rules),
    )


def _named(prefix: str) -> str:
    return prefix or "(everything)"


def _by_prefix(rules: Sequence[LifecycleRule]) -> dict[str, Model]:
    return {rule.prefix: rule for rule in rules}


def _count(rules: Sequence[LifecycleRule]) -> str:
    return "1 lifecycle rule" if len(rules) == 1 else f"{len(rules)} lifecycle rules"
