"""Files of keys: one key a line, or JSON lines such as the errors of another job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage, InvalidInputError, LocalFileError
from careflow_storage.jobs import plan_job
from careflow_storage.testing import B2Server
from tests.jobs.test_map import Place
from tests.support.jobs import fill

KEYS = ["calls/1", "calls/2", "ä b", "{not json", "z"]


@pytest.fixture
async def place(server: B2Server, tmp_path: Path) -> AsyncIterator[Place]:
    async with BackblazeStorage(server.settings()) as storage:
        await fill(storage, dict.fromkeys([*KEYS, "other"], b""))
        yield Place(storage, tmp_path / "place.env")


async def planned(place: Place, content: bytes, tmp_path: Path) -> tuple[int, int]:
    """The numbers of keys that a job with this file would work on, and that are not there."""
    file = tmp_path / "keys"
    file.write_bytes(content)
    plan = await plan_job(place.job("nothing", keys_file=file))
    return plan.objects, plan.errors


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(KEYS),
        "\r\n".join([*KEYS, ""]),
        "\ufeff" + "\n\n".join(reversed(KEYS)),
        "\n".join([*KEYS, *KEYS]),
        '\n{"key": "calls/1", "message": "x"}\n{"key":"calls/2"}\n'
        '{"key": "\\u00e4 b"}\n{"key": "{not json"}\n{"key": "z"}\n',
    ],
    ids=["lines", "windows", "mark", "twice", "json"],
)
async def test_each_key_counts_once(place: Place, content: str, tmp_path: Path) -> None:
    assert await planned(place, content.encode(), tmp_path) == (5, 0)


async def test_blanks_belong_to_a_key(place: Place, tmp_path: Path) -> None:
    assert await planned(place, b"calls/1 \ncalls/2", tmp_path) == (1, 1)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no keys"),
        (b"\n\r\n", "no keys"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"key": "a"}\nb\n', "Line 2"),
        (b'{"key": "a"}\n{"kind": "b"}\n', "Line 2"),
        (b'{"key": "a"}\n{"key": "\\ud800"}\n', "Line 2"),
    ],
)
async def test_a_file_without_keys_is_refused(
    place: Place, content: bytes, why: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match=why):
        await planned(place, content, tmp_path)


async def test_a_file_that_does_not_exist(place: Place, tmp_path: Path) -> None:
    with pytest.raises(LocalFileError, match="No such file"):
        await plan_job(place.job("nothing", keys_file=tmp_path / "nowhere"))
