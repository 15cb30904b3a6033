"""``careflow-storage lifecycle``: how long files are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from careflow_storage import BackblazeStorage
from careflow_storage.admin import LifecycleRule
from careflow_storage.admin.lifecycle_rules import check_rules
from careflow_storage.cli.actions.rules import RuleKind, print_rules
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.confirm import confirm
from careflow_storage.cli.ui.diff import show_changes
from careflow_storage.cli.ui.output import Output, counted
from careflow_storage.cli.ui.rule_files import lifecycle_rules


def _title(prefix: str) -> str:
    return prefix or "(everything)"


def _by_prefix(rules: Sequence[LifecycleRule]) -> dict[str, LifecycleRule]:
    return {rule.prefix: rule for rule in rules}


def _same(one: Sequence[LifecycleRule], other: Sequence[LifecycleRule]) -> bool:
    # Two rules for one prefix are refused, and the order does not count.
    return len(one) == len(other) and _by_prefix(one) == _by_prefix(other)


def _in_words(rule: LifecycleRule) -> str:
    hide, erase = rule.hide_after_days, rule.erase_after_days
    parts = []
    if hide is not None:
        parts.append(f"hidden {counted(hide, 'day')} after upload")
    if erase is not None:
        start = "later" if hide is not None else "after it is deleted or overwritten"
        parts.append(f"erased {counted(erase, 'day')} {start}")
    elif hide is not None:
        parts.append("never erased")
    if (abort := rule.cancel_unfinished_after_days) is not None:
        parts.append(f"unfinished uploads aborted after {counted(abort, 'day')}")
    return ", ".join([*parts, *rule.unsupported])


def _print(output: Output, rules: Sequence[LifecycleRule]) -> None:
    if not rules:
        output.note("There are no lifecycle rules: every version is kept, and billed.")
        return
    output.table(
        ("prefix", "what happens"),
        ((Text(clean(_title(each.prefix)), "cyan"), _in_words(each)) for each in rules),
    )


LIFECYCLE: RuleKind[LifecycleRule] = RuleKind(
    noun="lifecycle",
    load=lambda admin: admin.get_lifecycle_rules(),
    store=lambda admin, rules: admin.set_lifecycle_rules(rules),
    remove=lambda admin, prefix: admin.remove_lifecycle_rule(prefix),
    parse=lifecycle_rules,
    check=check_rules,
    same=_same,
    name=lambda rule: rule.prefix,
    by_name=_by_prefix,
    in_words=_in_words,
    print=_print,
    removal_question=lambda prefix: f"Keep the files below {_title(prefix)} until you delete them?",
    title=_title,
)


@dataclass(frozen=True)
class Expire:
    """How long files below a prefix are kept."""

    prefix: str
    hide_after_days: int | None
    erase_after_days: int | None
    cancel_unfinished_after_days: int | None
    yes: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Set the rule, after asking: it applies to existing files, too.

        Also asks if the prefix has another rule, which this one replaces as a whole.
        """
        rule = LifecycleRule(
            prefix=self.prefix,
            hide_after_days=self.hide_after_days,
            erase_after_days=self.erase_after_days,
            cancel_unfinished_after_days=self.cancel_unfinished_after_days,
        )
        before = [
            each
            for each in await LIFECYCLE.load(storage.admin)
            if each.prefix == self.prefix and each != rule
        ]
        title = _title(self.prefix)
        if before:
            show_changes(output, _by_prefix(before), _by_prefix([rule]), _in_words)
        if before or self.hide_after_days is not None or self.erase_after_days is not None:
            effect = _in_words(rule)
            question = f"Files below {title}, including existing ones: {effect}. Set this rule?"
            confirm(output, question, yes=self.yes)
        rules = await storage.admin.expire_recordings(
            prefix=self.prefix,
            hide_after_days=self.hide_after_days,
            erase_after_days=self.erase_after_days,
            cancel_unfinished_after_days=self.cancel_unfinished_after_days,
        )
        print_rules(output, LIFECYCLE, rules)
        output.done(f"Set the rule of {title}.")
