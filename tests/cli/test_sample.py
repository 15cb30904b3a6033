"""``careflow-storage sample``: a recording to try with."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import av
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


@pytest.mark.parametrize("name", ["call.webm", "call.ogg"])
def test_the_recording_has_a_duration_and_can_be_heard(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    run(str(path))
    with av.open(path) as file:
        assert file.duration is not None
        assert 5 < file.duration / av.time_base < 10
        loudest = max(float(frame.to_ndarray().max()) for frame in file.decode(audio=0))
    assert loudest > 0.1


def test_it_never_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "call.webm"
    path.write_bytes(b"mine")
    code, output = run(str(path))
    assert code == 2
    assert "exists" in output
    assert path.read_bytes() == b"mine"


def test_a_full_disk_leaves_no_part_of_a_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    open_file = Path.open

    def opened(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        file = open_file(path, mode, *arguments, **options)
        if mode != "xb":
            return file
        file.close()
        return Full()

    monkeypatch.setattr(Path, "open", opened)
    code, output = run(str(tmp_path / "call.webm"))
    assert code == 2
    assert "No space left on device" in output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["call.wav", "call", "missing/call.webm"])
def test_what_it_cannot_write_is_refused(tmp_path: Path, name: str) -> None:
    code, output = run(str(tmp_path / name))
    assert code == 2
    assert "InvalidInputError" in output
    assert not list(tmp_path.iterdir())
