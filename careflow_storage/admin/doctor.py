"""The doctor: finds out why it does not work, and says what to do."""

from __future__ import annotations

from typing import Literal

from careflow_storage.models import Model
from careflow_storage.settings import StorageSettings

Verdict = Literal["pass", "warn", "fail", "skip"]


class Finding(Model):
    """One thing that was looked at. ``cause`` and ``solution`` are for people."""

    check: str
    verdict: Verdict
    found: str
    cause: str | None = None
    solution: str | None = None
    seconds: float = 0.0


class Diagnosis(Model):
    """All findings, in the order in which they were made."""

    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of all: ``fail``, ``warn`` or ``pass``."""
        raise NotImplementedError


async def diagnose(
    settings: StorageSettings | None = None,
    *,
    origin: str | None = None,
    live: bool = False,
) -> Diagnosis:
    raise NotImplementedError
