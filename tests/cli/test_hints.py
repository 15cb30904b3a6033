"""What hints, messages, the doctor, --help and the documents advise is safe to be followed.

Every command and every call that they name is collected, parsed, and run as it stands on a bucket
with data: whatever was there is there afterwards.
"""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage, StorageError
from careflow_storage.admin import CorsRule, DefaultRetention, LifecycleRule, StorageAdmin
from careflow_storage.doctor import diagnose
from careflow_storage.keys import ApplicationKeys
from careflow_storage.outbox import Outbox
from careflow_storage.testing import B2Server
from tests.cli.test_docs import PAGES_OF_TEXT, parse, typed_lines
from tests.support.command import COMMAND, Command, Ran

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "careflow_storage"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OTHER = "https://other.example"
CLASSES = (BackblazeStorage, StorageAdmin, ApplicationKeys, Outbox)
_COMMAND = re.compile(r"`careflow-storage ([^`]+)`")
_CALL = re.compile(r"\b([a-z]+(?:_[a-z]+)+|retry|discard)\(((?:[^()]|\([^()]*\))*)\)")
_PLACEHOLDERS = {"KEY": "calls/CA1/call.wav", "PATH": "got.wav", "UPLOAD_ID": "no-such-upload"}
# They run for minutes, or set up the shell.
_NOT_RUN = ("serve-local", "demo", *PAGES_OF_TEXT)
# Their one purpose is to erase or replace, they are no advice, and the line says "--yes".
_MEANT = ("rm", "cors set", "lifecycle set", "lifecycle expire", "uploads abort", "lock", "cors")

# Advised only where there are none.
_ONLY_WITHOUT_RULES = ("expire_recordings",)


# --- collecting -------------------------------------------------------------------------


def texts_of(path: Path) -> Iterator[str]:
    """Every text of a module but docstrings; what an f-string fills in is X."""
    inside: set[int] = set()
    # It walks from the outside: what a docstring or an f-string consists of comes after it.
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr):
            inside.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            inside.update(id(each) for each in node.values)
            yield "".join(
                str(each.value) if isinstance(each, ast.Constant) else "X" for each in node.values
            )
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in inside
        ):
            yield node.value


TEXTS = [text for path in sorted(PACKAGE.rglob("*.py")) for text in texts_of(path)]
HINTED = sorted({found for text in TEXTS for found in _COMMAND.findall(text) if found != "X"})
EXAMPLES = sorted(
    {
        found.strip()
        for text in TEXTS
        if "`" not in text and re.search(r"(^|[|(] ?)careflow-storage [a-z-]", text)
        for found in re.findall(r"careflow-storage ((?:'[^']*'|\"[^\"]*\"|[^|;&)>])*)", text)
    }
)
DOCUMENTED = sorted(
    {line for page in PAGES for line in typed_lines(page.read_text(encoding="utf-8"))}
)


def calls_in(text: str) -> Iterator[tuple[str, str]]:
    """The methods of ours that a text names with brackets, and what stands in these."""
    for name, inside in _CALL.findall(text):
        if any(hasattr(each, name) for each in CLASSES):
            yield name, inside


CALLS = sorted({call for text in TEXTS if " " in text for call in calls_in(text)})


def words_of(line: str) -> list[str]:
    return [_PLACEHOLDERS.get(word, word) for word in shlex.split(line)]


# --- a bucket with data -----------------------------------------------------------------


@dataclass(frozen=True)
class Inventory:
    """All that could be lost."""

    versions: frozenset[tuple[str, str, bool]]
    visible: frozenset[str]
    uploads: frozenset[str]
    cors: tuple[CorsRule, ...]
    lifecycle: tuple[LifecycleRule, ...]
    encryption: str | None
    keys: frozenset[str]


RULES = [
    CorsRule(
        name="careflow-browser-uploads",
        allowed_origins=(OTHER,),
        allowed_methods=("GET", "DELETE"),
        allowed_headers=("x-own",),
        expose_headers=("x-own",),
        max_age_seconds=7,
    ),
    CorsRule(name="partner-players", allowed_origins=(OTHER,), allowed_methods=("GET",)),
]
LIFECYCLE = [
    LifecycleRule(prefix="recordings/", hide_after_days=365, erase_after_days=400),
    LifecycleRule(prefix="tmp/", hide_after_days=3),
]


async def fill(server: B2Server) -> None:
    async with BackblazeStorage(server.settings()) as storage:
        for key in ("calls/CA1/call.wav", "recordings/CA1/2026/a.wav", "careflow-doctor/mine.txt"):
            await storage.upload_file(key, b"first")
            await storage.upload_file(key, b"second")
        await storage.upload_file("recordings/CA2/hidden.wav", b"hidden")
        await storage.delete_file("recordings/CA2/hidden.wav")
        client = await storage.client()
        for key in ("recordings/CA3/live.wav", "calls/CA3/live.wav"):
            begun = await client.create_multipart_upload(Bucket=server.bucket, Key=key)
            await client.upload_part(
                Bucket=server.bucket,
                Key=key,
                UploadId=begun["UploadId"],
                PartNumber=1,
                Body=b"voice",
            )
        await storage.admin.set_cors_rules(RULES)
        await storage.admin.set_lifecycle_rules(LIFECYCLE)


async def inventory(server: B2Server) -> Inventory:
    async with BackblazeStorage(server.settings()) as storage:
        return Inventory(
            frozenset(
                (each.key, str(each.version_id), each.is_delete_marker)
                for each in server.versions()
            ),
            frozenset([each.key for each in await storage.list_files()]),
            frozenset(each.upload_id for each in server.incomplete_uploads()),
            tuple(await storage.admin.get_cors_rules()),
            tuple(await storage.admin.get_lifecycle_rules()),
            await storage.admin.get_bucket_encryption(),
            frozenset(each.key_id for each in await storage.admin.keys.list()),
        )


def check_nothing_is_lost(before: Inventory, after: Inventory) -> None:
    assert before.versions <= after.versions
    assert before.visible <= after.visible
    assert before.uploads <= after.uploads
    assert before.keys <= after.keys
    assert [rule for rule in after.cors if rule in before.cors] == list(before.cors)
    now = {rule.prefix: rule for rule in after.lifecycle}
    for rule in before.lifecycle:
        kept = now[rule.prefix].model_dump()
        for name, value in rule.model_dump().items():
            assert value in (None, ()) or kept[name] == value, rule.prefix
    assert before.encryption is None or after.encryption == before.encryption


async def follow(server: B2Server, line: str, *, stdin: str = "") -> Ran:
    return await Command(server.settings())(*words_of(line), stdin=stdin)


class Filled:
    """An emulator with data, filled anew after a command that could have changed it."""

    def __init__(self, server: B2Server) -> None:
        self._server = server
        self._inventory: Inventory | None = None

    async def follow(self, line: str, *, stdin: str) -> tuple[Inventory, Inventory]:
        """Run a command; return what there was before, and what there is after it."""
        if self._inventory is None:
            self._server.reset()
            await fill(self._server)
            self._inventory = await inventory(self._server)
        before, self._inventory = self._inventory, None
        sent = len(self._server.requests)
        await follow(self._server, line, stdin=stdin)
        if {attempt.method for attempt in self._server.requests[sent:]} <= {"GET", "HEAD"}:
            # It changed nothing: the next one finds the same.
            self._inventory = before
            return before, before
        return before, await inventory(self._server)


# --- as they stand in the source and in the documents -----------------------------------


def test_there_is_something_to_look_at() -> None:
    assert len(HINTED) >= 9
    assert len(EXAMPLES) >= 60
    assert len(DOCUMENTED) >= 100
    assert len(CALLS) >= 15


@pytest.mark.parametrize("line", [*HINTED, *EXAMPLES])
def test_every_command_that_is_named_exists_as_it_is_written(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word for word in words_of(line) if word != "X"]
    for word in words:
        # Files that a command reads must be there to be parsed.
        if "." in word and "/" not in word and not word.startswith("-"):
            (tmp_path / word).write_text("x")
    if len(words) == 1 or (line in HINTED and words[-1] in ("create", "download", "cat")):
        # Only named, to be looked up: it takes arguments of one's own.
        assert words[0] in getattr(COMMAND, "commands", {})
        return
    parse(COMMAND, "careflow-storage", words)


@pytest.mark.parametrize(("name", "inside"), CALLS)
def test_every_call_that_is_named_exists_with_its_arguments(name: str, inside: str) -> None:
    methods = [getattr(each, name) for each in CLASSES if hasattr(each, name)]
    known = {each for method in methods for each in inspect.signature(method).parameters}
    assert set(re.findall(r"\b([a-z_]+)=", inside)) <= known


@pytest.fixture(scope="module")
def filled() -> Iterator[Filled]:
    with B2Server() as emulator:
        yield Filled(emulator)


@pytest.mark.parametrize("line", sorted({*HINTED, *EXAMPLES, *DOCUMENTED}))
async def test_a_command_that_is_followed_loses_nothing(
    filled: Filled, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = words_of(line)
    if not words or words[0] in _NOT_RUN:
        return
    if "--yes" in words or "-y" in words:
        # No hint says so, and what does is about erasing.
        assert line not in HINTED
        assert " ".join(words).startswith(_MEANT), line
        return
    # Nobody types what erases for ever; but a "y" is typed quickly, where a hint says so.
    before, after = await filled.follow(line, stdin="y\n" if line in HINTED else "")
    if words[0] in ("rm", "mv") and line not in HINTED:
        # They hide, by their meaning; all versions stay.
        assert before.versions <= after.versions
        return
    check_nothing_is_lost(before, after)


@pytest.mark.parametrize(("name", "inside"), CALLS)
async def test_a_call_that_is_followed_loses_nothing(
    server: B2Server, name: str, inside: str
) -> None:
    await fill(server)
    if name in _ONLY_WITHOUT_RULES:
        async with BackblazeStorage(server.settings()) as storage:
            await storage.admin.set_lifecycle_rules([])
    before = await inventory(server)
    try:
        arguments = ast.parse(f"f({inside})", mode="eval").body
        assert isinstance(arguments, ast.Call)
        positional = [ast.literal_eval(each) for each in arguments.args]
        named = {str(each.arg): ast.literal_eval(each.value) for each in arguments.keywords}
    except (SyntaxError, ValueError):
        positional, named = None, None
    if positional is None or named is None:
        return  # Written for the reader to fill in; what it is filled in with is looked at below.
    async with BackblazeStorage(server.settings()) as storage:
        owners = [each for each in (storage, storage.admin) if hasattr(each, name)]
        for owner in owners:
            try:
                result = getattr(owner, name)(*positional, **named)
                if hasattr(result, "__await__"):
                    await result
            except (StorageError, TypeError):
                continue
    check_nothing_is_lost(before, await inventory(server))


# --- as they come out of what fails -----------------------------------------------------


def advised(*texts: object) -> list[str]:
    return [found for text in texts for found in _COMMAND.findall(str(text))]


@pytest.mark.parametrize("prefix", ["recordings/", "", "calls/CA1/call", "it's $HOME/", "-x/"])
async def test_the_doctor_names_its_own_folder_and_nothing_else_of_it_is_erased(
    server: B2Server, prefix: str
) -> None:
    await fill(server)
    before = await inventory(server)
    limited = server.create_key(
        capabilities={"listBuckets", "listFiles", "readFiles", "writeFiles"}
    )
    diagnosis = await diagnose(server.settings(key=limited), probe_prefix=prefix)
    left = diagnosis.of("clean up")
    assert left is not None
    (line,) = advised(left.solution)
    folder = shlex.split(line)[2]
    assert folder.startswith(f"{prefix}careflow-doctor-")
    assert folder.endswith("/")
    # To the letter, typing what is asked for.
    ran = await follow(server, line, stdin=f"{folder}\n")
    assert ran.code == 0, ran.err
    check_nothing_is_lost(before, await inventory(server))
    assert {each.key for each in server.versions()} == {key for key, _, _ in before.versions}


@pytest.mark.parametrize("capabilities", [None, {"listBuckets", "listFiles", "writeFiles"}])
@pytest.mark.parametrize("live", [False, True])
async def test_the_doctor_stores_nothing_that_no_key_could_erase(
    server: B2Server, capabilities: set[str] | None, live: bool
) -> None:
    async with BackblazeStorage(server.settings()) as storage:
        await storage.admin.set_object_lock(DefaultRetention(mode="compliance", days=3000))
    key = server.create_key(capabilities=capabilities)
    for _ in range(2):
        diagnosis = await diagnose(server.settings(key=key), live=live)
        locked = diagnosis.of("default retention")
        assert locked is not None
        assert locked.verdict == "warn"
        assert "locks every new file" in locked.found
        put, end = diagnosis.of("put"), diagnosis.of("clean up")
        assert put is not None
        assert put.verdict == "skip"
        assert end is not None
        assert end.verdict == "pass"
        usable = diagnosis.of("usable")
        assert usable is None or usable.verdict == "pass"
        assert server.versions() == []
        assert server.incomplete_uploads() == []
        assert "lacks deleteFiles" not in str(diagnosis)


async def test_a_lock_without_default_retention_is_no_reason_to_store_nothing(
    server: B2Server,
) -> None:
    async with BackblazeStorage(server.settings()) as storage:
        await storage.admin.set_object_lock()
    for key in (None, server.create_key(capabilities={"listBuckets", "writeFiles", "deleteFiles"})):
        settings = server.settings() if key is None else server.settings(key=key)
        diagnosis = await diagnose(settings)
        put = diagnosis.of("put")
        assert put is not None
        assert put.verdict == "pass"
        assert diagnosis.of("default retention") is None or key is None
        assert server.versions() == []


@pytest.mark.parametrize(
    "rules",
    [
        [],
        LIFECYCLE,
        [LifecycleRule(prefix="", hide_after_days=30)],
        [LifecycleRule(prefix="recordings/", erase_after_days=1)],
        [LifecycleRule(prefix="tmp/", hide_after_days=3)],
    ],
)
async def test_the_doctors_advice_about_its_other_findings_keeps_what_is_there(
    server: B2Server, rules: list[LifecycleRule]
) -> None:
    await fill(server)
    async with BackblazeStorage(server.settings()) as storage:
        await storage.admin.set_lifecycle_rules(rules)
        await storage.admin.set_bucket_encryption(None)
    before = await inventory(server)
    first = await diagnose(server.settings(), origin="https://new.example")
    lines = advised(*(each.solution for each in first.findings))
    assert any(line.startswith("lifecycle expire") for line in lines)
    for line in lines:
        await follow(server, line, stdin="y\n")
    check_nothing_is_lost(before, await inventory(server))
    again = await diagnose(server.settings(), origin="https://new.example")
    for name in ("lifecycle", "encryption", "cors PUT", "cors GET"):
        found = again.of(name)
        assert found is not None
        assert found.verdict == "pass", found


async def test_stale_uploads_are_shown_before_any_is_erased(server: B2Server) -> None:
    await fill(server)
    before = await inventory(server)
    for line in HINTED:
        if line.startswith("uploads"):
            await follow(server, line, stdin="y\n")
    check_nothing_is_lost(before, await inventory(server))
    async with BackblazeStorage(server.settings()) as storage:
        assert await storage.abort_stale_uploads(timedelta(days=1)) == []


async def test_advice_is_about_the_bucket_of_the_command_that_gave_it(
    server: B2Server, tmp_path: Path
) -> None:
    file = tmp_path / "pro d.env"
    file.write_text("".join(f"{k}={v}\n" for k, v in server.environment().items()))
    command = Command(server.settings())
    given = ("--env-file", file, "--bucket", server.bucket)
    for words in (("doctor",), ("doctor", "--json"), ("cors", "check", "https://new.example")):
        ran = await command(*given, *words)
        expected = shlex.join(["careflow-storage", *map(str, given)])
        output = (ran.out + ran.err).replace("\\n", "\n")
        assert expected in output
        assert not re.search(r"careflow-storage (lifecycle|cors|uploads|rm) ", output)


async def test_hints_of_bucket_and_locks_name_nothing_that_erases(server: B2Server) -> None:
    await fill(server)
    before = await inventory(server)
    async with BackblazeStorage(server.settings()) as storage:
        with pytest.raises(StorageError) as raised:
            await storage.admin.delete_bucket(confirm=server.bucket)
        hint = str(raised.value.hint)
        assert "dry_run=True" in hint
        for name, inside in calls_in(hint):
            owner = storage.admin if hasattr(storage.admin, name) else storage
            options = {"dry_run": True} if "dry_run" in inside else {}
            await getattr(owner, name)("", **options)
    check_nothing_is_lost(before, await inventory(server))
