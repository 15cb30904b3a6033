"""What people see on terminals of every width, and how numbers of things are written."""

from __future__ import annotations

import re

import pytest

from careflow_storage import BackblazeStorage
from careflow_storage._counted import counted
from careflow_storage.cli.ui.progress import human_size
from careflow_storage.jobs import Location, MapJob, run_job
from careflow_storage.testing import B2Server
from careflow_storage.usage.sizes import decimal_size
from tests.cli.test_hints import PACKAGE, texts_of
from tests.support.command import Command

KEY = "recordings/CA0123456789/1795521600000-a-call-of-ours.webm"
COMMANDS = (
    *("ls", "ls --long --human", "ls --tree", "versions", "uploads list", "buckets list"),
    *("buckets info", "cors show", "lifecycle show", "lock show", "keys list", "jobs list"),
    *("usage --downloaded 500GB", "config --all", f"info {KEY}", f"lock status {KEY}"),
    *("cors check https://app.example", "migrate env", "jobs show {job}", "info nothing"),
)
# They print lines, which the terminal continues where they do not fit, so that they can be copied.
LINES = ("ls", "ls --tree", "keys list", "migrate env", f"lock status {KEY}")
ROWS = ("ls --long --human", "versions", "uploads list", "usage --downloaded 500GB")
_ANSI = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
_NOUNS = (
    "bucket|byte|call|check|day|error|file|folder|key|minute|month|object|part|range|request|rule|"
    "second|setting|shard|upload|variable|version|warning|worker|year"
)


async def fill(server: B2Server) -> str:
    """Fill the bucket; return the ID of a job."""
    async with BackblazeStorage(server.settings()) as storage:
        for _ in range(2):
            await storage.upload_file(KEY, b"sound")
        client = await storage.client()
        await client.create_multipart_upload(Bucket=server.bucket, Key=KEY)
        await storage.admin.allow_browser_uploads(["https://app.example"])
        await storage.admin.expire_recordings(hide_after_days=365, erase_after_days=1)
    return MapJob("tests.support.job_functions:touch", location=Location()).job_id


@pytest.mark.slow
async def test_everything_fits_and_no_key_or_id_is_cut(
    server: B2Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(server)
    command = Command(server.settings())
    for name, value in command.environment.items():
        monkeypatch.setenv(name, str(value))
    report = await run_job(
        MapJob("tests.support.job_functions:touch", location=Location(), prefix="recordings/")
    )
    version = server.versions()[0].version_id
    for line in COMMANDS:
        words = line.format(job=report.job.job_id).split()
        # A time, a size and a state need more than 40 columns.
        at_least = 40 if line in ROWS else 0
        for width in (40, 60, 80, 120):
            ran = await command(*words, COLUMNS=str(width), FORCE_COLOR="1", TERM="xterm")
            text = _ANSI.sub("", ran.out)
            assert "…" not in re.sub(r"\w…\w", "", text), (line, width)
            for shown in text.splitlines() if line not in LINES and width > at_least else ():
                # Only a word of its own may be longer: the terminal continues it.
                assert len(shown.rstrip()) <= width or " " not in shown.strip(), (width, shown)
            if line in ("ls", "versions"):
                assert KEY in text
            if line == "versions":
                assert str(version) in text
            if line == "jobs list":
                assert report.job.job_id in text
            if line == "keys list":
                assert server.key.key_id in text


async def test_output_to_a_pipe_does_not_depend_on_the_width(server: B2Server) -> None:
    await fill(server)
    command = Command(server.settings())
    for line in ("ls --long", "versions", "cors show", "lifecycle show", "buckets list", "config"):
        narrow, wide = [
            (await command(*line.split(), COLUMNS=width)).out for width in ("40", "200")
        ]
        assert narrow == wide


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 files"), (1, "1 file"), (2, "2 files"), (2000, "2,000 files")],
)
def test_one_is_singular(number: int, text: str) -> None:
    assert counted(number, "file") == text


@pytest.mark.parametrize(("size", "text"), [(0, "0 bytes"), (1, "1 byte"), (2, "2 bytes")])
def test_one_byte_is_singular_in_both_units(size: int, text: str) -> None:
    assert human_size(size) == decimal_size(size) == text


def test_no_text_of_the_command_writes_a_plural_itself() -> None:
    folders = [PACKAGE / "cli", PACKAGE / "doctor"]
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        for text in texts_of(path):
            # X is what an f-string fills in; a rate is per second.
            found = re.search(rf"\bX (?:(?!of )[a-z]+ )?(?:{_NOUNS})s\b(?!/s)", text)
            assert found is None or text in _ALLOWED, (path, text)


# "Set these CORS rules", "The prefix recordings/ has rules": no numbers.
_ALLOWED = {
    "Set these X rules for X?",
    "PutObject works (X bytes below the probe prefix)",
    "The prefix X has rules that B2 does not support: add one that cancels with the S3 client of "
    "`await storage.client()`.",
}
