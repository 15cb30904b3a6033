"""The findings of the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import computed_field

from careflow_storage.models import Model

Verdict = Literal["pass", "warn", "fail", "skip"]
"""The result of one check."""
Group = Literal["settings", "network", "access", "bucket", "live", "end"]
"""The part of the diagnosis that a check belongs to."""


class Finding(Model):
    """The result of one check.

    Attributes:
        group: The subject. Findings are sorted by group.
        check: The check's name. It never changes, so scripts may rely on it.
        verdict: ``skip`` if the check did not run, because it needs one that failed.
        found: The result, in words.
        cause: The cause, unless the verdict is ``pass``.
        solution: What to do about it.
        seconds: The duration of the check.
    """

    group: Group
    check: str
    verdict: Verdict
    found: str
    cause: str | None = None
    solution: str | None = None
    seconds: float = 0.0


class Diagnosis(Model):
    """All findings in order. ``verdict`` is part of the JSON, too."""

    findings: tuple[Finding, ...]

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated properties
    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all findings: ``fail``, ``warn`` or ``pass``."""
        found = {finding.verdict for finding in self.findings}
        return "fail" if "fail" in found else "warn" if "warn" in found else "pass"

    def exit_code(self, *, strict: bool = False) -> int:
        """Return 1 if a check failed, or with ``strict`` warned; otherwise 0."""
        return int(self.verdict == "fail" or (strict and self.verdict == "warn"))

    def of(self, check: str) -> Finding | None:
        """Return the finding of a check, or None if the check did not run."""
        return next((each for each in self.findings if each.check == check), None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a check. ``check`` replaces the check's own name."""

    verdict: Verdict
    found: str
    cause: str | None = None
    solution: str | None = None
    check: str | None = None


def passed(found: str) -> Outcome:
    return Outcome("pass", found)


def warned(found: str, cause: str, solution: str) -> Outcome:
    return Outcome("warn", found, cause, solution)


def failed(found: str, cause: str, solution: str) -> Outcome:
    return Outcome("fail", found, cause, solution)


def skipped(found: str) -> Outcome:
    return Outcome("skip", found)
