"""What ``careflow-storage cors`` does and prints."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import cast

from rich.text import Text

from careflow_storage import BackblazeStorage, InvalidInputError
from careflow_storage.admin import CorsCheck, CorsMethod, CorsRule, Preflight
from careflow_storage.admin.cors_limits import check_rules, origin_problem
from careflow_storage.admin.cors_matching import unreadable
from careflow_storage.cli.run import FAILED, NOT_THERE
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.confirm import confirm
from careflow_storage.cli.ui.diff import confirm_changes, show_changes
from careflow_storage.cli.ui.output import Output
from careflow_storage.cli.ui.rule_files import cors_rules, read_rules_text
from careflow_storage.models import Model

_NO_RULES = "There are no CORS rules: browsers refuse this bucket to all web pages."

_NAMELESS = "(no name)"
_WIDE = 100
"""From how many columns of a terminal on there is room for a table."""


async def show_rules(storage: BackblazeStorage, output: Output) -> None:
    """Print the rules."""
    _print_rules(output, await storage.admin.get_cors_rules())


@dataclass(frozen=True)
class Allowance:
    """Who is to be let in."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    name: str
    max_age: timedelta
    add: bool
    yes: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Let them in; ask first if that locks others out."""
        for origin in self.origins:
            if problem := origin_problem(origin):
                raise InvalidInputError(f"ORIGIN: {problem}.")
        if not self.add:
            await self._ask(storage, output)
        rules = await storage.admin.allow_browser_uploads(
            self.origins,
            # Other methods are refused there.
            methods=cast("tuple[CorsMethod, ...]", self.methods),
            name=self.name,
            max_age_seconds=int(self.max_age.total_seconds()),
            add=self.add,
        )
        _print_rules(output, rules)
        output.done(f"Pages of {', '.join(self.origins)} may {', '.join(self.methods)}.")

    async def _ask(self, storage: BackblazeStorage, output: Output) -> None:
        """Ask before the rule takes from an origin what it has."""
        there = await storage.admin.get_cors_rules()
        before = next((each for each in there if each.name == self.name), None)
        if before is None:
            return
        others = [each for each in before.allowed_origins if each not in self.origins]
        lost = [each for each in before.allowed_methods if each not in self.methods]
        if others:
            question = f"The rule {self.name} lets in {', '.join(others)}, too. Lock them out?"
            confirm(output, f"{question} (--add keeps)", yes=self.yes)
        elif lost:
            question = f"The rule {self.name} allows {', '.join(lost)}, too. Take that away?"
            confirm(output, f"{question} (--add keeps)", yes=self.yes)


@dataclass(frozen=True)
class Replacement:
    """Rules of a file, for those that are there."""

    file: Path
    yes: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Show what changes, ask, set."""
        rules = cors_rules(await asyncio.to_thread(read_rules_text, self.file))
        before = await storage.admin.get_cors_rules()
        if before == rules:
            output.data(rules)
            output.note("The bucket has these rules already.")
            return
        # Of what cannot be set nothing is shown and asked.
        check_rules(rules)
        earlier, later = _by_name(before), _by_name(rules)
        show_changes(output, earlier, later, in_words)
        bucket = str(storage.settings.bucket_name)
        confirm_changes(output, "CORS", bucket, earlier, later, yes=self.yes)
        await storage.admin.set_cors_rules(rules)
        _print_rules(output, rules)
        output.done(f"Set {_count(rules)}.")


@dataclass(frozen=True)
class Removal:
    """A rule that is to go."""

    name: str
    yes: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> int | None:
        """Show it, ask, take it away."""
        found = [each for each in await storage.admin.get_cors_rules() if each.name == self.name]
        if not found:
            output.data({"removed": False})
            output.warn(f"There is no CORS rule {self.name}.")
            return NOT_THERE
        show_changes(output, _by_name(found), {}, in_words)
        confirm(output, f"Remove the CORS rule {self.name}?", yes=self.yes)
        left = await storage.admin.remove_cors_rule(self.name)
        output.data(left)
        output.done(f"Removed {self.name}; {_count(left)} left.")
        return None


@dataclass(frozen=True)
class Question:
    """May a page of this origin?"""

    origin: str
    method: CorsMethod
    headers: tuple[str, ...]
    key: str | None

    async def run(self, storage: BackblazeStorage, output: Output) -> int | None:
        """Ask the rules and the server; tell both."""
        response = await storage.admin.check_cors(
            self.origin, self.method, self.headers, key=self.key
        )
        output.data(response)
        _print_response(output, response)
        return None if response.allowed else FAILED


def _print_response(output: Output, response: CorsCheck) -> None:
    may = ("may", "bold green") if response.allowed else ("may not", "bold red")
    output.line(Text.assemble(clean(response.origin), " ", may, f" {response.method}"))
    output.fields(
        {
            "rule": "none fits" if response.rule is None else response.rule.name or _NAMELESS,
            "preflight": _preflight_in_words(response.preflight),
            "pages can read": response.preflight.expose_headers,
        }
    )
    for problem in response.problems:
        output.warn(problem)
    if response.rule is None or unreadable(response.rule, response.method):
        allow = output.command(
            "cors", "allow", response.origin, "--add", "--method", response.method
        )
        output.note(f"To let it in: {allow}")


def _preflight_in_words(preflight: Preflight) -> str:
    said = [f"HTTP {preflight.status}"]
    if preflight.allow_origin is not None:
        said.append(f"origin {preflight.allow_origin}")
        said.append(f"methods {', '.join(preflight.allow_methods) or 'none'}")
        said.append(f"headers {', '.join(preflight.allow_headers) or 'none'}")
    if preflight.max_age_seconds is not None:
        said.append(f"for {preflight.max_age_seconds} s")
    return "; ".join(said)


def _print_rules(output: Output, rules: Sequence[CorsRule]) -> None:
    output.data(rules)
    if not rules:
        output.note(_NO_RULES)
        return
    if output.stdout.is_terminal and output.stdout.width < _WIDE:
        for rule in rules:
            output.line(Text(clean(rule.name or _NAMELESS), "cyan"))
            output.fields(rule.model_dump(exclude={"name"}))
        return
    output.table(
        ("rule", "origins", "methods", "headers", "exposes", "seconds>"),
        (
            (
                Text(clean(rule.name or _NAMELESS), "cyan"),
                _several(output, rule.allowed_origins),
                _several(output, rule.allowed_methods),
                _several(output, rule.allowed_headers),
                _several(output, rule.expose_headers),
                Text("-" if rule.max_age_seconds is None else str(rule.max_age_seconds)),
            )
            for rule in rules
        ),
    )


def _several(output: Output, texts: Sequence[str]) -> Text:
    # In a pipe a rule is a line.
    between = "\n" if output.stdout.is_terminal else ","
    return Text(between.join(map(clean, texts)) or "-")


def _by_name(rules: Sequence[CorsRule]) -> dict[str, Model]:
    return {rule.name or f"(rule {number})": rule for number, rule in enumerate(rules, 1)}


def in_words(rule: Model) -> str:
    """One rule in a line."""
    fields = rule.model_dump(exclude={"name"})
    return "; ".join(
        f"{name.removeprefix('allowed_')} {', '.join(value) if isinstance(value, tuple) else value}"
        for name, value in fields.items()
        if value not in (None, ())
    )


def _count(rules: Sequence[CorsRule]) -> str:
    return "1 CORS rule" if len(rules) == 1 else f"{len(rules)} CORS rules"
