"""``careflow-storage keys``: create, list, rotate and delete application keys."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rich.text import Text

from careflow_storage import InvalidInputError, StorageError, StorageSettings
from careflow_storage._endpoint import host_of, is_loopback
from careflow_storage._env_file import read_env, write_env
from careflow_storage.cli.actions.key_holders import Holders, confirm_finish, confirm_rotation
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.confirm import confirm, interruptible
from careflow_storage.cli.ui.output import Output, moment
from careflow_storage.cli.ui.spinner import waiting
from careflow_storage.keys import PRESETS, ApplicationKeys, CreatedKey, KeyInfo
from careflow_storage.keys.naming import base_name, replaced_id

MASTER_KEY = "BACKBLAZE_MASTER_APPLICATION_KEY"
_WIDE = 120
"""The columns that a terminal needs for the table."""
_KEY_ID = "BACKBLAZE_KEY_ID"
_APPLICATION_KEY = "BACKBLAZE_APPLICATION_KEY"


def sign_in(settings: StorageSettings, key_id: str | None) -> ApplicationKeys:
    """Sign in with this key, whose secret is in the environment or asked for.

    Raises:
        InvalidInputError: The user cannot be asked, or typed nothing.
        NotConfiguredError: There is no ``key_id``, and no key in the settings.
    """
    if key_id is None:
        return ApplicationKeys.of_settings(settings)
    secret = os.environ.get(MASTER_KEY, "").strip() or _prompt(key_id)
    if not secret:
        raise InvalidInputError(
            f"The application key of {key_id} is missing.",
            hint=f"Type it at the prompt, or set {MASTER_KEY}.",
        )
    local = settings.endpoint is not None and is_loopback(host_of(settings.endpoint))
    realm = settings.endpoint if local else None
    return ApplicationKeys(key_id, secret, realm=realm or "production")


def _prompt(key_id: str) -> str:
    with interruptible():
        if sys.stdin.isatty():
            return getpass.getpass(f"Application key of {clean(key_id)}: ", sys.stderr).strip()
        return sys.stdin.readline().strip()


@dataclass(frozen=True)
class KeyCreation:
    """A key to create."""

    name: str
    capabilities: str | Sequence[str]
    bucket: str | None
    prefix: str | None
    expires: timedelta | None
    env_file: Path | None
    yes: bool

    async def run(self, output: Output, settings: StorageSettings, key_id: str | None) -> None:
        """Create it; print its secret, or write it only to the file."""
        if self.env_file is not None:
            await self._check_file(output, self.env_file)
        keys = sign_in(settings, key_id)
        async with waiting(output, "Creating the key"):
            created = await keys.create(
                self.name,
                self.capabilities,
                bucket=self.bucket,
                prefix=self.prefix,
                expires_in=self.expires,
            )
        secret = created.application_key.get_secret_value()
        public = created.model_dump(mode="json", exclude={"application_key"})
        if self.env_file is None:
            output.item({**public, "application_key": secret})
            output.line(f"{_KEY_ID}={created.key_id}")
            output.line(f"{_APPLICATION_KEY}={secret}")
            output.warn("The application key is not shown again: keep it in a safe place.")
        else:
            await _write(keys, created, self.env_file)
            output.item({**public, "env_file": self.env_file})
        output.done(f"Created {created.name} ({created.key_id}): {_described(created)}.")
        if self.env_file is not None:
            output.done(f"Wrote {self.env_file}, readable only by you.")

    async def _check_file(self, output: Output, path: Path) -> None:
        existing = await asyncio.to_thread(_key_in, path)
        if existing:
            confirm(output, f"{path} has the key {existing}. Replace it?", yes=self.yes)
        if not os.access(path.parent, os.W_OK):
            raise InvalidInputError(f"Cannot write {path}: its folder is not writable.")


def _key_in(path: Path) -> str | None:
    return read_env(path).get(_KEY_ID) if path.exists() else None


async def _write(keys: ApplicationKeys, created: CreatedKey, path: Path) -> None:
    secret = created.application_key.get_secret_value()
    try:
        await asyncio.to_thread(
            write_env, path, {_KEY_ID: created.key_id, _APPLICATION_KEY: secret}
        )
    except StorageError:
        # Its secret is lost, so the key is useless.
        await keys.delete(created.key_id)
        raise


async def print_keys(output: Output, settings: StorageSettings, key_id: str | None) -> None:
    """Print all keys, and which have expired."""
    async with waiting(output, "Listing the keys"):
        found = await sign_in(settings, key_id).list()
    output.items({**each.model_dump(mode="json"), "expired": each.expired} for each in found)
    if not found:
        output.note("There are no application keys except the one that signed in.")
        return
    _print_table(output, found, settings.key_id)


def _print_table(output: Output, keys: Sequence[KeyInfo], own: str | None) -> None:
    if output.stdout.is_terminal and output.stdout.width < _WIDE:
        # IDs are not folded, so that they can be copied.
        for key in keys:
            output.line(Text.assemble(_id(key, own), f"  {clean(base_name(key.name))}"))
            rest = (f"  {_may(key)} in {_where(key)}, ", _expires(key), _replaced(key))
            output.print(Text.assemble(*rest))
        return
    output.table(
        ("key ID", "name", "may", "where", "expires", ""),
        (
            (
                _id(key, own),
                base_name(key.name),
                _may(key),
                _where(key),
                _expires(key),
                _replaced(key),
            )
            for key in keys
        ),
    )


def _id(key: KeyInfo, own: str | None) -> Text:
    return Text(clean(key.key_id), "bold cyan" if key.key_id == own else "cyan")


def _expires(key: KeyInfo) -> Text:
    if key.expires_at is None:
        return Text("never expires", "dim")
    if key.expired:
        return Text(f"expired {moment(key.expires_at)}", "bold red")
    return Text(f"until {moment(key.expires_at)}")


def _replaced(key: KeyInfo) -> Text:
    old = replaced_id(key)
    return Text() if old is None else Text(f" replaces {clean(old)}", "dim")


def _may(key: KeyInfo) -> str:
    has = frozenset(key.capabilities)
    if "writeKeys" in has:
        # Docs "Application Key Capabilities": as good as the master key.
        return "everything (it can create keys)"
    for preset, capabilities in PRESETS.items():
        if has == capabilities:
            return preset
    return ", ".join(sorted(has))


def _where(key: KeyInfo) -> str:
    buckets = "all buckets" if key.bucket_names is None else ", ".join(key.bucket_names)
    return f"{buckets}/{key.prefix}" if key.prefix else buckets


def _described(key: KeyInfo) -> str:
    ends = f", until {moment(key.expires_at)}" if key.expires_at else ""
    return f"{_may(key)} in {_where(key)}{ends}"


@dataclass(frozen=True)
class KeyRotation:
    """A key to replace."""

    old: str
    env_file: Path
    grace: timedelta | None
    expires: timedelta | None
    yes: bool

    async def run(
        self, output: Output, settings: StorageSettings, key_id: str | None, settings_file: Path
    ) -> None:
        """Replace it, and print what happened to both keys."""
        keys = sign_in(settings, key_id)
        holders = await asyncio.to_thread(
            Holders.found, settings, key_id, settings_file, rotated=self.env_file
        )
        if not self.yes:
            async with waiting(output, "Listing the keys"):
                found = await keys.list()
            at_once = self.grace == timedelta(0)
            confirm_rotation(output, self.old, found, holders, at_once=at_once)
        async with waiting(output, "Replacing the key"):
            result = await keys.rotate(
                self.old,
                settings=settings if settings.endpoint else None,
                env_file=self.env_file,
                grace=self.grace,
                expires_in=self.expires,
            )
        output.item(result)
        new = result.new_key_id
        resumed = " Continued an interrupted rotation." if result.resumed else ""
        output.done(f"{new} replaces {self.old}: tested, and written to {self.env_file}.{resumed}")
        for deleted in result.deleted:
            output.done(f"Deleted {deleted}.")
        for place in holders.of(self.old):
            output.warn(f"{self.old} is still {place}. It stops working when the key is deleted.")
        if not result.old_deleted:
            until = result.delete_old_after
            after = f" after {moment(until)}" if until else ""
            output.note(
                f"{self.old} still works. Restart the programs that use it, then run{after}:"
            )
            output.note(f"  {output.command('keys', 'finish', new)}")
        if result.probe_left is not None:
            output.note(f"The test of the key left a hidden file: {result.probe_left}")


async def finish_rotation(
    output: Output,
    settings: StorageSettings,
    key_id: str | None,
    new: str,
    settings_file: Path,
    *,
    yes: bool,
) -> None:
    """Delete the keys that the new one replaced; ask first if one may be in use."""
    keys = sign_in(settings, key_id)
    if not yes:
        holders = await asyncio.to_thread(Holders.found, settings, key_id, settings_file)
        async with waiting(output, "Listing the keys"):
            found = await keys.list()
        confirm_finish(output, new, found, holders)
    async with waiting(output, "Deleting replaced keys"):
        deleted = await keys.finish_rotation(new)
    output.items(deleted)
    for each in deleted:
        output.done(f"Deleted {each.name} ({each.key_id}).")
    if not deleted:
        output.note("There are no keys to delete yet.")


async def delete_key(
    output: Output, settings: StorageSettings, key_id: str | None, target: str, *, yes: bool
) -> None:
    """Delete a key, after asking."""
    own = " It is the key of your settings!" if target == settings.key_id else ""
    keys = sign_in(settings, key_id)
    confirm(output, f"Delete the key {target}?{own}", yes=yes)
    async with waiting(output, "Deleting the key"):
        deleted = await keys.delete(target)
    output.item(deleted)
    output.done(f"Deleted {deleted.name} ({deleted.key_id}).")
