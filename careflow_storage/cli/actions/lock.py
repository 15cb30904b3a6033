"""What ``careflow-storage lock`` does and prints."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rich.text import Text

from careflow_storage import BackblazeStorage, InvalidInputError, Retention
from careflow_storage.admin import DefaultRetention, ObjectLock
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.confirm import confirm
from careflow_storage.cli.ui.durations import days_in_words
from careflow_storage.cli.ui.output import Output, moment
from careflow_storage.protection import RetentionMode


async def show_lock(storage: BackblazeStorage, output: Output) -> None:
    """Print whether the bucket can lock files."""
    lock = await storage.admin.get_object_lock()
    output.data(lock)
    output.print(Text(_in_words(lock)))


def _in_words(lock: ObjectLock) -> str:
    if not lock.enabled:
        return "This bucket cannot lock files."
    if lock.default is None:
        return "This bucket can lock files; new ones are not locked unless they say so."
    kept = f"{days_in_words(lock.default.days)} ({lock.default.mode})"
    return f"This bucket can lock files; new ones are kept for {kept}."


@dataclass(frozen=True)
class Enabling:
    """Let the bucket lock files."""

    mode: RetentionMode | None
    days: int | None
    yes: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Ask, and do it."""
        default = None
        if self.mode is not None and self.days is not None:
            default = DefaultRetention(mode=self.mode, days=self.days)
        before = await storage.admin.get_object_lock()
        if before == ObjectLock(enabled=True, default=default):
            output.data(before)
            output.note("It is so already.")
            return
        confirm(output, self._question(storage, before), yes=self.yes)
        await storage.admin.set_object_lock(default)
        now = await storage.admin.get_object_lock()
        output.data(now)
        output.done(_in_words(now))

    def _question(self, storage: BackblazeStorage, before: ObjectLock) -> str:
        default = f"new files are kept for {self.days} days ({self.mode})"
        if self.mode is None:
            default = "new files are not locked by default"
        if self.mode == "compliance":
            default += ", and nobody can erase them earlier"
        if before.enabled:
            return f"From now on {default}. Set it?"
        bucket = storage.settings.bucket_name
        return f"{bucket} will be able to lock files, which can never be undone; {default}. Go on?"


@dataclass(frozen=True)
class Retaining:
    """Keep a version until a time."""

    key: str
    until: datetime | None
    length: timedelta | None
    mode: RetentionMode
    version_id: str | None
    bypass_governance: bool
    yes: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Ask if it is for compliance, and do it."""
        until = self._until()
        if self.mode == "compliance":
            question = f"Until {moment(until)} nobody can erase {self.key} or undo this. Go on?"
            confirm(output, question, yes=self.yes)
        await storage.admin.set_retention(
            self.key,
            Retention(mode=self.mode, retain_until=until),
            version_id=self.version_id,
            bypass_governance=self.bypass_governance,
        )
        kept = {"key": self.key, "version_id": self.version_id}
        output.data({**kept, "mode": self.mode, "retain_until": until})
        output.done(f"Kept until {moment(until)} ({self.mode}): {self.key}")

    def _until(self) -> datetime:
        if self.until is not None:
            return self.until
        try:
            # Whole seconds are what S3 stores.
            return datetime.now(UTC).replace(microsecond=0) + (self.length or timedelta())
        except OverflowError:
            raise InvalidInputError("--for ends after the year 9999.") from None


@dataclass(frozen=True)
class Releasing:
    """Lift a governance retention."""

    key: str
    version_id: str | None
    yes: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Ask, and do it."""
        before = await storage.admin.get_retention(self.key, version_id=self.version_id)
        if before is not None:
            until = moment(before.retain_until)
            question = f"{self.key} is kept until {until} ({before.mode}). Release it?"
            confirm(output, question, yes=self.yes)
            await storage.admin.set_retention(
                self.key, None, version_id=self.version_id, bypass_governance=True
            )
        output.data({"key": self.key, "version_id": self.version_id, "released": before})
        if before is None:
            output.note(f"There is no retention: {self.key}")
        else:
            output.done(f"Released: {self.key}")


@dataclass(frozen=True)
class Holding:
    """Put a legal hold on, or lift it."""

    key: str
    on: bool
    version_id: str | None

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Do it."""
        await storage.admin.set_legal_hold(self.key, self.on, version_id=self.version_id)
        output.data({"key": self.key, "version_id": self.version_id, "legal_hold": self.on})
        done = "Legal hold is on" if self.on else "Legal hold is lifted"
        output.done(f"{done}: {self.key}")


@dataclass(frozen=True)
class Status:
    """What keeps a version from being erased."""

    key: str
    version_id: str | None

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Print it."""
        retention = await storage.admin.get_retention(self.key, version_id=self.version_id)
        hold = await storage.admin.get_legal_hold(self.key, version_id=self.version_id)
        kept = retention is not None and retention.retain_until > datetime.now(UTC)
        output.data(
            {
                "key": self.key,
                "version_id": self.version_id,
                "retention": retention,
                "legal_hold": hold,
                "locked": kept or hold,
            }
        )
        locked = ("locked", "bold yellow") if kept or hold else ("not locked", "bold green")
        output.line(Text.assemble(clean(self.key), " is ", locked))
        shown = "none"
        if retention is not None:
            over = "" if kept else ", which is over"
            shown = f"{retention.mode} until {moment(retention.retain_until)}{over}"
        output.fields({"retention": shown, "legal hold": "on" if hold else "off"})
