"""``careflow-storage sample``: a recording to try with."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner


def run(*arguments: str) -> tuple[int, str]:
    from careflow_storage.cli.app import app

    result = CliRunner().invoke(app, ["sample", *arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("name", "magic"), [("call.webm", b"\x1a\x45\xdf\xa3"), ("a.ogg", b"OggS")]
)
def test_it_writes_a_recording_of_the_named_type(tmp_path: Path, name: str, magic: bytes) -> None:
    path = tmp_path / name
    assert run(str(path)) == (0, f"{path}\n")
    assert path.read_bytes().startswith(magic)


def test_it_never_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "call.webm"
    path.write_bytes(b"mine")
    code, output = run(str(path))
    assert code == 2
    assert "exists" in output
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["call.wav", "call", "missing/call.webm"])
def test_what_it_cannot_write_is_refused(tmp_path: Path, name: str) -> None:
    code, output = run(str(tmp_path / name))
    assert code == 2
    assert "InvalidInputError" in output
    assert not list(tmp_path.iterdir())
