"""``careflow-storage lock``: protect files from being erased."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rich.text import Text

from careflow_storage import BackblazeStorage, InvalidInputError, Retention
from careflow_storage.admin import DefaultRetention, ObjectLock
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.confirm import confirm
from careflow_storage.cli.ui.output import Output, counted, moment
from careflow_storage.protection import RetentionMode


async def show_lock(storage: BackblazeStorage, output: Output) -> None:
    """Print whether the bucket can lock files."""
    lock = await storage.admin.get_object_lock()
    output.item(lock)
    output.print(Text(_in_words(lock)))


def _in_words(lock: ObjectLock) -> str:
    if not lock.enabled:
        return "Object lock is disabled."
    if lock.default is None:
        return "Object lock is enabled. New files are not locked by default."
    kept = f"{counted(lock.default.days, 'day')} ({lock.default.mode})"
    return f"Object lock is enabled. New files are locked for {kept}."


@dataclass(frozen=True)
class Enable:
    """Object lock for the bucket, and its default for new files."""

    mode: RetentionMode | None
    days: int | None
    yes: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Enable it, after asking."""
        default = None
        if self.mode is not None and self.days is not None:
            default = DefaultRetention(mode=self.mode, days=self.days)
        before = await storage.admin.get_object_lock()
        if before == ObjectLock(enabled=True, default=default):
            output.item(before)
            output.note("Nothing to change.")
            return
        confirm(output, self._question(storage, before), yes=self.yes)
        await storage.admin.set_object_lock(default)
        now = await storage.admin.get_object_lock()
        output.item(now)
        output.done(_in_words(now))

    def _question(self, storage: BackblazeStorage, before: ObjectLock) -> str:
        default = "New files are not locked by default."
        if self.mode is not None:
            default = f"New files are locked for {counted(self.days or 0, 'day')} ({self.mode})."
        if self.mode == "compliance":
            default = f"{default[:-1]}, and no key can erase them earlier."
        if before.enabled:
            return f"{default} Set this default?"
        bucket = storage.settings.bucket_name
        return f"Object lock of {bucket} cannot be disabled again. {default} Enable it?"


@dataclass(frozen=True)
class Retain:
    """A version to protect until a time."""

    key: str
    until: datetime | None
    length: timedelta | None
    mode: RetentionMode
    version_id: str | None
    bypass_governance: bool
    yes: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Protect it, after asking if the mode is compliance."""
        until = self._until()
        if self.mode == "compliance":
            question = f"Until {moment(until)} no key can erase {self.key} or undo this. Continue?"
            confirm(output, question, yes=self.yes)
        await storage.admin.set_retention(
            self.key,
            Retention(mode=self.mode, retain_until=until),
            version_id=self.version_id,
            bypass_governance=self.bypass_governance,
        )
        kept = {"key": self.key, "version_id": self.version_id}
        output.item({**kept, "mode": self.mode, "retain_until": until})
        output.done(f"Locked until {moment(until)} ({self.mode}): {self.key}")

    def _until(self) -> datetime:
        if self.until is not None:
            return self.until
        try:
            # S3 stores whole seconds.
            return datetime.now(UTC).replace(microsecond=0) + (self.length or timedelta())
        except OverflowError:
            raise InvalidInputError("--for ends after the year 9999.") from None


@dataclass(frozen=True)
class Release:
    """A governance retention to end."""

    key: str
    version_id: str | None
    yes: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """End it, after asking."""
        before = await storage.admin.get_retention(self.key, version_id=self.version_id)
        if before is not None:
            until = moment(before.retain_until)
            question = f"{self.key} is locked until {until} ({before.mode}). Release it?"
            confirm(output, question, yes=self.yes)
            await storage.admin.set_retention(
                self.key, None, version_id=self.version_id, bypass_governance=True
            )
        output.item({"key": self.key, "version_id": self.version_id, "released": before})
        if before is None:
            output.note(f"There is no retention: {self.key}")
        else:
            output.done(f"Released: {self.key}")


@dataclass(frozen=True)
class Hold:
    """A legal hold to set or end."""

    key: str
    on: bool
    version_id: str | None

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Set or end it."""
        await storage.admin.set_legal_hold(self.key, self.on, version_id=self.version_id)
        output.item({"key": self.key, "version_id": self.version_id, "legal_hold": self.on})
        done = "Legal hold set" if self.on else "Legal hold ended"
        output.done(f"{done}: {self.key}")


@dataclass(frozen=True)
class Status:
    """A version whose protection is shown."""

    key: str
    version_id: str | None

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Print its retention and its legal hold."""
        retention = await storage.admin.get_retention(self.key, version_id=self.version_id)
        hold = await storage.admin.get_legal_hold(self.key, version_id=self.version_id)
        retained = retention is not None and retention.retain_until > datetime.now(UTC)
        output.item(
            {
                "key": self.key,
                "version_id": self.version_id,
                "retention": retention,
                "legal_hold": hold,
                "locked": retained or hold,
            }
        )
        locked = ("locked", "bold yellow") if retained or hold else ("not locked", "bold green")
        output.line(Text.assemble(clean(self.key), " is ", locked))
        shown = "none"
        if retention is not None:
            ended = "" if retained else ", ended"
            shown = f"{retention.mode} until {moment(retention.retain_until)}{ended}"
        output.fields({"retention": shown, "legal hold": "on" if hold else "off"})
