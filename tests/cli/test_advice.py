"""Advice of the library in the words of the command: no Python in what people read here."""

from __future__ import annotations

import re
import shlex

import pytest

from careflow_storage.cli.ui.advice import command_advice
from careflow_storage.testing import B2Server
from tests.cli.test_docs import parse
from tests.cli.test_hints import CLASSES, PACKAGE, texts_of
from tests.support.command import COMMAND, Command

# What no command reaches: code of other programs, and arguments that only Python can get wrong.
_ELSEWHERE = {"browser", "hooks", "integrations", "local", "outbox", "testing"}
_METHODS = {
    name
    for each in CLASSES
    for name in dir(each)
    if not name.startswith("_") and callable(getattr(each, name))
} | {"list_jobs", "resume_job"}
# Their advice is about code.
_OF_PYTHON = re.compile(
    r"body|Path\b|asyncio|open_recording|upload_file|read\(|head_object|delete_object|Config\(|"
    r"hooks|close\(\)|initialize|client\(\)`|StoragePortal|ApplicationKeys\(|allow_private|"
    r"^[A-Za-z_<]+\(|to_base64|^X\(|rate_limit|b2_|use_proxy|^await storage"
)
TEXTS = sorted(
    {
        text
        for path in PACKAGE.rglob("*.py")
        if not _ELSEWHERE & set(path.relative_to(PACKAGE).parts)
        for text in texts_of(path)
        if " " in text and not _OF_PYTHON.search(text)
    }
)


def test_no_advice_names_a_method_or_its_argument() -> None:
    assert len(TEXTS) > 500
    for text in TEXTS:
        advice = command_advice(text)
        called = set(re.findall(r"\b([a-z_]+)\(", advice))
        assert not called & (_METHODS - {"create", "list", "delete"}), advice
        assert not re.search(r"\b(dry_run|resume|deep|bypass_governance|overwrite)=", advice), (
            advice
        )


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("list_jobs() lists them.", "`careflow-storage jobs list` lists them."),
        (
            "purge_files('', dry_run=True) counts",
            '`careflow-storage rm --prefix "" --all-versions --dry-run` counts',
        ),
        (
            "delete_file('it''s a.wav', version_id='4_z1') erases it.".replace("''", "\\'"),
            "`careflow-storage rm 'it'\"'\"'s a.wav' --version-id 4_z1` erases it.",
        ),
        (
            "allow_browser_uploads(['https://a.example'], methods=['GET'], add=True)",
            "`careflow-storage cors allow https://a.example --method GET --add`",
        ),
        ("bypass_governance=True shortens it", "--bypass-governance shortens it"),
        ("dry_run=True counts", "--dry-run counts"),
        (
            "Enable it: `careflow-storage lock enable`, or await storage.admin.set_object_lock().",
            "Enable it: `careflow-storage lock enable`.",
        ),
        (
            "Set one: `careflow-storage lifecycle expire` (it asks first), or await "
            "storage.admin.expire_recordings(erase_after_days=30). They stay for 30 days.",
            "Set one: `careflow-storage lifecycle expire` (it asks first). They stay for 30 days.",
        ),
        ("Set them in .env, or pass StorageSettings(...).", "Set them in .env."),
        (
            "look with get_retention() and get_legal_hold()",
            "look with `careflow-storage lock status`",
        ),
        ("A list (or two) of keys", "A list (or two) of keys"),
    ],
)
def test_a_call_becomes_the_command_that_does_the_same(text: str, advice: str) -> None:
    assert command_advice(text) == advice


def test_every_command_that_advice_becomes_can_be_typed() -> None:
    found = {
        line
        for text in TEXTS
        for line in re.findall(r"`careflow-storage ([^`]+)`", command_advice(text))
        if line != "X" and line not in ("cat", "download", "keys create")
    }
    needs = {
        "uploads abort": ["a", "1"],
        "uploads keep": ["a", "1"],
        "restore": ["a"],
        "rm": ["a"],
        "lock hold": ["a", "off"],
        "lock status": ["a"],
        "cors allow": ["https://a.example"],
        "exists": ["a"],
        "jobs resume": ["20260131T235959-0123abcd"],
    }
    assert len(found) > 10
    for line in found:
        parse(COMMAND, "careflow-storage", [*shlex.split(line), *needs.get(line, [])])


async def test_errors_hints_and_documents_name_commands(server: B2Server) -> None:
    command = Command(server.settings())
    for arguments, advised in (
        (("jobs", "show", "20260131T235959-0123abcd"), "jobs list`"),
        (("keys", "delete", "0040000000000000000000009", "--yes"), "keys list`"),
        (("cors", "remove", "x", "--yes"), ""),
        (("restore", "nowhere"), ""),
        (("lock", "retain", "nowhere", "--for", "1d"), ""),
    ):
        ran = await command("--bucket", server.bucket, *arguments)
        text = " ".join(ran.err.split())
        assert ran.code != 0
        assert advised in text
        assert not re.search(r"\w\(\)|storage\.|method ", text), text
        if advised:
            assert f"`careflow-storage --bucket {server.bucket} {advised}" in text
