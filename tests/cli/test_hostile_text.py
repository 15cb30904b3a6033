r"""Text from outside never steers a terminal: names, messages and values, in every command.

Each command meets keys, local names, key names, rules, settings and responses that hold escape
sequences, line breaks, controls of direction and rich's own markup.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.rich_utils  # noqa: F401 - it reads FORCE_COLOR once; others must not find ours
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage import BackblazeStorage
from careflow_storage.cli.ui.cleaning import clean, clean_json
from careflow_storage.cli.ui.output import json_text
from careflow_storage.testing import B2Server
from tests.support.command import Command, Ran

pytestmark = pytest.mark.slow

STEERING = "\x1b]0;pwned\x07\x1b[8;777m\x9b777m\x1bc\u202e\u2066\u2028\u2029\u200f\ufeff\x7f"
NAME = f"a{STEERING}[red]b[/red][/]\nFAKE LINE\r\tc"
# Keys have none of the first controls and no DEL: B2 refuses those.
KEY = "calls/" + re.sub(r"[\x00-\x1f\x7f]", "", NAME) + ".txt"
_SGR = re.compile(r"\x1b\[(?!8;777)[0-9;]*m")
# What rich itself writes where it moves bars: cursor up, line start, erase line, cursor on/off.
_MOVES = re.compile(r"\x1b\[(?:\d*A|2K|\?25[lh])|\r")


@pytest.fixture
async def filled(server: B2Server) -> B2Server:
    """A bucket in which every name is hostile."""
    async with BackblazeStorage(server.settings()) as storage:
        await storage.upload_file(KEY, b"voice\x1b[8;777m", metadata={"note": "[red]n[/red]"})
        await storage.upload_file(KEY, b"again", content_type="text/plain")
        await storage.upload_file(f"{KEY}.gone", b"voice")
        await storage.delete_file(f"{KEY}.gone")
        client = await storage.client()
        await client.create_multipart_upload(Bucket=server.bucket, Key=KEY)
        cors: Any = {
            "CORSRules": [
                {
                    "ID": "[red]\u202erule\u2028",
                    "AllowedOrigins": ["https://app.example", "https://\u202e\x9b777m.example"],
                    "AllowedMethods": ["GET"],
                    "ExposeHeaders": ["x-\u2028[red]"],
                }
            ]
        }
        await client.put_bucket_cors(Bucket=server.bucket, CORSConfiguration=cors)
        await storage.admin.expire_recordings(erase_after_days=30, prefix=KEY)
    key = server.create_key(capabilities={"listFiles"})
    object.__setattr__(key, "name", NAME)
    return server


def assert_clean(text: str, *, moving: bool = False) -> None:
    text = _SGR.sub("", text)
    if moving:
        text = _MOVES.sub("", text)
    for line in text.split("\n"):
        steering = [char for char in line if not char.isprintable() and char not in "\u200c\u200d"]
        assert not steering, (steering, line)
        # A line break from outside makes no line of its own.
        assert not line.startswith("FAKE LINE"), text


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("ls",),
    ("ls", "-l"),
    ("ls", "--tree"),
    ("ls", KEY),
    ("ls", NAME),
    ("info", KEY),
    ("info", f"{KEY}.none"),
    ("info", NAME),
    ("exists", KEY),
    ("exists", f"{KEY}.none"),
    ("cat", f"{KEY}.none"),
    ("url", KEY),
    ("url", NAME),
    ("versions", KEY),
    ("versions", NAME),
    ("restore", f"{KEY}.gone"),
    ("restore", f"{KEY}.none"),
    ("cp", KEY, f"{KEY}.copy"),
    ("cp", f"{KEY}.none", f"{KEY}.copy"),
    ("mv", f"{KEY}.copy", f"{KEY}.moved"),
    ("download", KEY, "{folder}/got-" + "{name}"),
    ("download", KEY, "{folder}/none-" + "{name}/got"),
    ("download", "--prefix", "calls/", "{folder}/all-" + "{name}"),
    ("upload", "{file}", "--prefix", "up/"),
    ("upload", "{file}", "--key", "up/" + KEY),
    ("upload", "{file}", "--key", NAME),
    ("upload", "{folder}", "--prefix", "tree/", "--recursive"),
    ("upload", "{folder}/missing-{name}", "--prefix", "up/"),
    ("uploads", "list"),
    ("uploads", "keep", KEY, NAME),
    ("uploads", "abort", KEY, NAME, "--yes"),
    ("uploads", "abort", KEY, NAME),
    ("uploads", "abort", "--older-than", "1s", "--dry-run"),
    ("buckets", "list"),
    ("buckets", "info"),
    ("buckets", "create", NAME),
    ("buckets", "delete", NAME),
    ("cors", "show"),
    ("cors", "allow", NAME),
    ("cors", "allow", "https://new.example", "--name", "[red]\u202erule\u2028"),
    ("cors", "allow", "https://new.example", "--name", NAME),
    ("cors", "check", NAME),
    ("cors", "check", "https://app.example", "--method", "DELETE"),
    ("cors", "remove", NAME),
    ("cors", "remove", "[red]\u202erule\u2028"),
    ("cors", "set", "{rules}"),
    ("cors", "set", "{folder}/missing-{name}"),
    ("lifecycle", "show"),
    ("lifecycle", "remove", KEY),
    ("lifecycle", "remove", NAME),
    ("lifecycle", "set", "{rules}"),
    ("lifecycle", "expire", "--prefix", KEY),
    ("lock", "show", KEY),
    ("lock", "status", NAME),
    ("keys", "list"),
    ("keys", "delete", NAME),
    ("keys", "create", NAME, "--preset", "app"),
    ("keys", "finish", NAME),
    ("usage",),
    ("usage", "--prefix", "calls/"),
    ("config",),
    ("doctor", "--probe-prefix", KEY),
    ("doctor", "--origin", NAME),
    ("migrate", "env", "{env}"),
    ("migrate", "env", "{folder}/missing-{name}"),
    ("rm", KEY, "--all-versions"),
    ("rm", KEY, "--dry-run"),
    ("rm", f"{KEY}.none"),
    ("rm", "--prefix", "calls/", "--all-versions"),
    ("rm", "--prefix", "calls/"),
    ("rm", KEY),
    (NAME,),
    (f"--{NAME}",),
    ("ls", f"--{NAME}"),
    ("cors", NAME),
    ("url", KEY, "--expires", NAME),
    ("upload", "{file}", "--part-size", NAME),
    ("--env-file", "{folder}/missing-{name}", "ls"),
    ("--env-file", "{env}", "ls"),
    ("--bucket", NAME, "ls"),
    ("demo", "--recording", "{folder}/missing-{name}"),
    ("serve-local", "--bucket", NAME),
)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    name = NAME.replace("/", "-")
    folder = tmp_path / f"folder-{name}"
    folder.mkdir()
    file = folder / f"{name}.txt"
    file.write_bytes(b"voice")
    rules = tmp_path / f"rules-{name}.json"
    rules.write_text(json.dumps([{NAME: NAME}]), encoding="utf-8")
    env = tmp_path / f"env-{name}"
    env.write_text(
        f"AWS_ACCESS_KEY_ID='{NAME}'\nAWS_S3_BUCKET_NAME='{NAME}'\nBACKBLAZE_REGION='{NAME}'\n",
        encoding="utf-8",
    )
    return {
        "folder": str(folder),
        "file": str(file),
        "rules": str(rules),
        "env": str(env),
        "name": name,
    }


def filled_in(arguments: tuple[str, ...], places: dict[str, str]) -> list[str]:
    for place, text in places.items():
        arguments = tuple(each.replace(f"{{{place}}}", text) for each in arguments)
    return list(arguments)


@pytest.mark.parametrize("mode", ["plain", "json", "terminal"])
@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda each: clean(" ".join(each))[:60])
async def test_no_command_prints_control_characters(
    filled: B2Server, places: dict[str, str], arguments: tuple[str, ...], mode: str
) -> None:
    words = filled_in(arguments, places) + (["--json"] if mode == "json" else [])
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm-256color"} if mode == "terminal" else {}
    ran: Ran = await Command(filled.settings())(*words, stdin="n\n", **terminal)
    assert ran.out + ran.err or mode == "json", "it says something"
    assert_clean(ran.out, moving=mode == "terminal")
    assert_clean(ran.err, moving=mode == "terminal")
    if mode == "json" and ran.code == 0:
        for line in ran.out.splitlines():
            assert line.isprintable()


@pytest.mark.parametrize("mode", ["plain", "json", "terminal"])
async def test_what_a_server_writes_is_clean(filled: B2Server, mode: str) -> None:
    message = NAME.replace("\r", "")
    filled.faults.always("GetObject", status=403, code="AccessDenied", message=message)
    filled.faults.always("HeadObject", status=400, code="Odd\u202e[red]", message=message)
    filled.faults.always("ListObjectsV2", status=403, code="AccessDenied", message=message)
    terminal = {"FORCE_COLOR": "1"} if mode == "terminal" else {}
    extra = ["--json"] if mode == "json" else []
    for words in (["cat", KEY], ["info", KEY], ["ls"], ["doctor"]):
        ran = await Command(filled.settings())(*words, *extra, **terminal)
        assert ran.code or words == ["doctor"]
        assert_clean(ran.out, moving=mode == "terminal")
        assert_clean(ran.err, moving=mode == "terminal")


@pytest.mark.parametrize("mode", ["plain", "json"])
def test_a_traceback_is_clean(filled: B2Server, tmp_path: Path, mode: str) -> None:
    """A traceback, a warning and a failed task, in a process of their own."""
    script = tmp_path / "defect.py"
    script.write_text(
        "import asyncio, sys, warnings\n"
        "import careflow_storage.cli as cli\n"
        "from careflow_storage import BackblazeStorage\n"
        f"text = {NAME!r}\n"
        "async def head(*arguments, **options):\n"
        "    warnings.warn(text)\n"
        "    asyncio.get_running_loop().call_exception_handler({'message': text})\n"
        "    raise RuntimeError(text)\n"
        "BackblazeStorage.get_file_metadata = head\n"
        "cli.main()\n"
    )
    words = ["info", "key", *(["--json"] if mode == "json" else [])]
    done = subprocess.run(
        [sys.executable, str(script), *words],
        env={**os.environ, **filled.environment(), "PYTHONUTF8": "1"},
        capture_output=True,
        check=False,
    )
    output = done.stderr.decode()
    assert done.returncode == 1
    assert "RuntimeError" in output
    assert "UserWarning" in output
    assert output.count("pwned") >= 3
    assert_clean(output)


@given(st.text())
def test_any_text_is_cleaned_and_stays_different(text: str) -> None:
    cleaned = clean(text)
    assert all(char.isprintable() or char in "\u200c\u200d" for char in cleaned)
    assert clean(cleaned) == cleaned


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_is_clean_and_means_the_same(value: Any) -> None:
    for ascii_only in (True, False):
        text = clean_json(json.dumps(value, ensure_ascii=ascii_only))
        assert all(char.isprintable() or char in "\u200c\u200d" for char in text)
        assert json.loads(text) == value
    assert json.loads(json_text(value)) == value
