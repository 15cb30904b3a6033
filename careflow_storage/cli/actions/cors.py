"""``careflow-storage cors``: which web pages may access the bucket."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from rich.text import Text

from careflow_storage import BackblazeStorage, InvalidInputError
from careflow_storage.admin import CorsCheck, CorsMethod, CorsPreset, CorsRule, Preflight
from careflow_storage.admin.cors.browser_rule import methods_of
from careflow_storage.admin.cors.limits import check_rules, origin_problem
from careflow_storage.admin.cors.matching import unreadable
from careflow_storage.cli.actions.rules import RuleKind, print_rules
from careflow_storage.cli.exit_codes import FAILED
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.confirm import confirm
from careflow_storage.cli.ui.output import Output
from careflow_storage.cli.ui.rule_files import cors_rules

_NAMELESS = "(no name)"
_WIDE = 100
"""The columns that a terminal needs for the table."""


def _title(rule: CorsRule) -> Text:
    return Text(clean(rule.name or _NAMELESS), "cyan")


def _joined(output: Output, texts: Sequence[str]) -> Text:
    # In a pipe, one rule is one line.
    separator = "\n" if output.stdout.is_terminal else ","
    return Text(separator.join(map(clean, texts)) or "-")


def _in_words(rule: CorsRule) -> str:
    return "; ".join(
        f"{name.removeprefix('allowed_')} {', '.join(value) if isinstance(value, tuple) else value}"
        for name, value in rule.model_dump(exclude={"name"}).items()
        if value not in (None, ())
    )


def _by_name(rules: Sequence[CorsRule]) -> dict[str, CorsRule]:
    return {rule.name or f"(rule {number})": rule for number, rule in enumerate(rules, 1)}


def _print(output: Output, rules: Sequence[CorsRule]) -> None:
    if not rules:
        output.note("There are no CORS rules: browsers refuse web pages access to this bucket.")
    elif output.stdout.is_terminal and output.stdout.width < _WIDE:
        for rule in rules:
            output.line(_title(rule))
            output.fields(rule.model_dump(exclude={"name"}))
    else:
        output.table(
            ("rule", "origins", "methods", "headers", "exposes", "seconds>"),
            (
                (
                    _title(rule),
                    _joined(output, rule.allowed_origins),
                    _joined(output, rule.allowed_methods),
                    _joined(output, rule.allowed_headers),
                    _joined(output, rule.expose_headers),
                    Text("-" if rule.max_age_seconds is None else str(rule.max_age_seconds)),
                )
                for rule in rules
            ),
        )


CORS: RuleKind[CorsRule] = RuleKind(
    noun="CORS",
    load=lambda admin: admin.get_cors_rules(),
    store=lambda admin, rules: admin.set_cors_rules(rules),
    remove=lambda admin, name: admin.remove_cors_rule(name),
    parse=cors_rules,
    check=check_rules,
    # The order counts: browsers get the first rule that fits.
    same=lambda one, other: list(one) == list(other),
    name=lambda rule: rule.name,
    by_name=_by_name,
    in_words=_in_words,
    print=_print,
    removal_question=lambda name: f"Remove the CORS rule {name}?",
)


@dataclass(frozen=True)
class Allow:
    """Origins that get access."""

    origins: tuple[str, ...]
    preset: CorsPreset | None
    methods: tuple[str, ...] | None
    name: str
    max_age: timedelta
    add: bool
    yes: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Set the rule; ask first if another origin or method loses access."""
        for origin in self.origins:
            if problem := origin_problem(origin):
                raise InvalidInputError(f"ORIGIN: {problem}.")
        # The method refuses any other values.
        methods = cast("tuple[CorsMethod, ...] | None", self.methods)
        allowed = methods_of(self.preset, methods)
        if not self.add and self.preset is None:
            await self._confirm_losses(storage, output, allowed)
        rules = await storage.admin.allow_browser_uploads(
            self.origins,
            self.preset,
            methods=methods,
            name=self.name,
            max_age_seconds=int(self.max_age.total_seconds()),
            add=self.add,
        )
        print_rules(output, CORS, rules)
        output.done(f"Pages of {', '.join(self.origins)} may {', '.join(allowed)}.")

    async def _confirm_losses(
        self, storage: BackblazeStorage, output: Output, allowed: Collection[str]
    ) -> None:
        before = next(
            (each for each in await CORS.load(storage.admin) if each.name == self.name), None
        )
        if before is None:
            return
        origins = [each for each in before.allowed_origins if each not in self.origins]
        methods = [each for each in before.allowed_methods if each not in allowed]
        if lost := origins or methods:
            verb = "gives access to" if origins else "allows"
            question = f"The rule {self.name} also {verb} {', '.join(lost)}. Remove that?"
            confirm(output, f"{question} (--add keeps it)", yes=self.yes)


@dataclass(frozen=True)
class CorsCheckJob:
    """A request that a web page may or may not send."""

    origin: str
    method: CorsMethod
    headers: tuple[str, ...]
    key: str | None

    async def run(self, storage: BackblazeStorage, output: Output) -> int | None:
        """Check the rules and the server; print both results."""
        result = await storage.admin.check_cors(
            self.origin, self.method, self.headers, key=self.key
        )
        output.item(result)
        _print_check(output, result)
        return None if result.allowed else FAILED


def _print_check(output: Output, result: CorsCheck) -> None:
    may = ("may", "bold green") if result.allowed else ("may not", "bold red")
    output.line(Text.assemble(clean(result.origin), " ", may, f" {result.method}"))
    output.fields(
        {
            "rule": "none applies" if result.rule is None else result.rule.name or _NAMELESS,
            "preflight": _preflight_in_words(result.preflight),
            "pages can read": result.preflight.expose_headers,
        }
    )
    for problem in result.problems:
        output.warn(output.advice(problem))
    if result.rule is None or unreadable(result.rule, result.method):
        allow = output.command("cors", "allow", result.origin, "--add", "--method", result.method)
        output.note(f"To allow it: {allow}")


def _preflight_in_words(preflight: Preflight) -> str:
    parts = [f"HTTP {preflight.status}"]
    if preflight.allow_origin is not None:
        parts.append(f"origin {preflight.allow_origin}")
        parts.append(f"methods {', '.join(preflight.allow_methods) or 'none'}")
        parts.append(f"headers {', '.join(preflight.allow_headers) or 'none'}")
    if preflight.max_age_seconds is not None:
        parts.append(f"for {preflight.max_age_seconds} s")
    return "; ".join(parts)
