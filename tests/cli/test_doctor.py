"""`careflow-storage doctor`, as a person and as a script runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from careflow_storage.cli.app import app
from careflow_storage.testing import B2Server


@pytest.fixture(autouse=True)
def environment(server: B2Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment points to the server."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)


def doctor(*arguments: str, before: tuple[str, ...] = ()) -> Result:
    return CliRunner().invoke(app, [*before, "doctor", *arguments])


def test_it_prints_every_check_in_groups_and_a_summary(server: B2Server) -> None:
    done = doctor()
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line for line in lines if line in ("Settings", "Network", "Access", "Bucket")] == [
        "Settings",
        "Network",
        "Access",
        "Bucket",
    ]
    assert any(line.startswith("✓") and "ListObjectsV2 works" in line for line in lines)
    warning = next(number for number, line in enumerate(lines) if line.startswith("!"))
    assert "lifecycle" in lines[warning]
    assert lines[warning + 1].startswith("    Cause     ")
    assert lines[warning + 2].startswith("    Solution  Set one: careflow-storage lifecycle")
    assert lines[-1].startswith("! Works, with warnings  1 warning")
    assert str(server.key.application_key) not in done.output
    assert server.versions() == []


def test_for_scripts_it_prints_one_document_and_strict_counts_warnings(server: B2Server) -> None:
    done = doctor("--json", "--strict")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert document["verdict"] == "warn"
    found = {each["check"]: each["verdict"] for each in document["findings"]}
    assert found["lifecycle"] == "warn"
    assert found["put"] == "pass"
    assert server.key.application_key not in done.stdout


def test_a_failure_exits_with_1_and_skipped_checks_share_a_line(
    server: B2Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKBLAZE_APPLICATION_KEY", "K004" + 27 * "s")
    done = doctor()
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert any(line.startswith("✗") and "SignatureDoesNotMatch" in line for line in lines)
    skipped = [line for line in lines if line.startswith("–")]
    assert len(skipped) == 1
    assert "because credentials failed" in skipped[0]
    assert "multipart" in skipped[0]
    assert lines[-1].startswith("✗ Does not work  1 failed")
    assert "ssssss" not in done.output


def test_the_options_before_the_command_hold_and_malformed_settings_are_findings(
    server: B2Server, tmp_path: Path
) -> None:
    done = doctor(before=("--bucket", "careflow-recordings-else"))
    assert done.exit_code == 1
    assert "There is no bucket careflow-recordings-else." in done.stdout
    assert "✓   BACKBLAZE_BUCKET_NAME" in done.stdout
    assert "(passed as an argument)" in done.stdout
    (tmp_path / "prod.env").write_text("BACKBLAZE_PART_SIZE=much\n")
    malformed = doctor(before=("--env-file", "prod.env"))
    assert malformed.exit_code == 1
    assert f"in {tmp_path / 'prod.env'}" in malformed.stdout
    assert "BACKBLAZE_PART_SIZE" in malformed.stdout


def test_a_wrong_origin_is_wrong_use(server: B2Server) -> None:
    done = doctor("--origin", "app.example/page")
    assert done.exit_code == 2
    assert server.requests == []


def test_text_of_a_server_does_not_control_the_terminal(server: B2Server) -> None:
    server.faults.always(
        "ListObjectsV2", status=403, code="AccessDenied", message="\x1b[2Jgone\u202e"
    )
    done = doctor()
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout


def test_help_shows_examples() -> None:
    done = doctor("--help")
    assert done.exit_code == 0
    assert "careflow-storage doctor --origin https://app.example" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
async def test_ctrl_c_erases_the_probes(server: B2Server) -> None:
    hanging = server.faults.next("HeadObject", cut="hang")
    with start() as process:
        await hanging.fired.wait()
        assert len(server.versions()) == 1
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=100)
    assert process.returncode == 130, output + errors
    assert "Traceback" not in errors
    assert server.versions() == []


def start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "careflow_storage.cli", "doctor"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
