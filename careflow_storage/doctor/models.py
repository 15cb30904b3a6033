"""What the doctor tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import computed_field

from careflow_storage.models import Model

Verdict = Literal["pass", "warn", "fail", "skip"]
Group = Literal["settings", "network", "access", "bucket", "live", "end"]


class Finding(Model):
    """One thing that was looked at.

    Attributes:
        group: What it is about; findings come group by group.
        check: Its name, which never changes: scripts may look for it.
        verdict: ``skip``: not looked at, since it needs what failed before.
        found: What was found, for people.
        cause: Why it is so, where the verdict is not ``pass``.
        solution: What to do about it.
        seconds: How long it took.
    """

    group: Group
    check: str
    verdict: Verdict
    found: str
    cause: str | None = None
    solution: str | None = None
    seconds: float = 0.0


class Diagnosis(Model):
    """All findings, in the order in which they were made; ``verdict`` is also in its JSON."""

    findings: tuple[Finding, ...]

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated properties
    @property
    def verdict(self) -> Verdict:
        """The worst of all: ``fail``, ``warn`` or ``pass``."""
        found = {finding.verdict for finding in self.findings}
        return "fail" if "fail" in found else "warn" if "warn" in found else "pass"

    def exit_code(self, *, strict: bool = False) -> int:
        """Return 1 if something failed (``strict``: or is to be warned of), else 0."""
        return int(self.verdict == "fail" or (strict and self.verdict == "warn"))

    def of(self, check: str) -> Finding | None:
        """Return the finding of this check, None if it was not made."""
        return next((each for each in self.findings if each.check == check), None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found; ``check`` if it is not the check's own name."""

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
