"""B2 denies access to a missing file if the key lacks listBuckets: every call says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import AccessDeniedError, BackblazeStorage
from careflow_storage.testing import B2Server

Act = Callable[[BackblazeStorage, Path], Awaitable[Any]]


async def _streamed(storage: BackblazeStorage, **options: Any) -> bytes:
    return await storage.stream_file("missing", **options).read()


READS: dict[str, Act] = {
    "get_file": lambda s, p: s.get_file("missing"),
    "stream_file": lambda s, p: _streamed(s),
    "stream_file, a range": lambda s, p: _streamed(s, start=5),
    "open_file": lambda s, p: s.open_file("missing"),
    "download_file": lambda s, p: s.download_file("missing", p / "file"),
    "download_file, resumable": lambda s, p: s.download_file("missing", p / "file", resume=True),
    "get_file_metadata": lambda s, p: s.get_file_metadata("missing"),
    "file_exists": lambda s, p: s.file_exists("missing"),
    "copy_file": lambda s, p: s.admin.copy_file("missing", "elsewhere"),
    "move_file": lambda s, p: s.admin.move_file("missing", "elsewhere"),
}


@pytest.mark.parametrize("act", READS.values(), ids=READS.keys())
async def test_a_missing_file_is_told_as_one_that_may_be_missing(act: Act, tmp_path: Path) -> None:
    with B2Server() as server:
        key = server.create_key(capabilities={"readFiles", "writeFiles", "deleteFiles"})
        async with BackblazeStorage(server.settings(key=key)) as storage:
            with pytest.raises(AccessDeniedError) as caught:
                await act(storage, tmp_path)
    error = caught.value
    assert "objects that do not exist when the application key lacks listBuckets" in str(error.hint)
    assert error.message.startswith("The file does not exist, or the application key may not read")
    assert error.code == "AccessDenied"


async def test_a_key_that_may_not_read_is_told_what_else_it_can_be(tmp_path: Path) -> None:
    with B2Server() as server:
        key = server.create_key(capabilities={"listBuckets", "listFiles", "writeFiles"})
        async with BackblazeStorage(server.settings(key=key)) as storage:
            await storage.upload_file("there", b"x")
            with pytest.raises(AccessDeniedError) as caught:
                await storage.get_file("there")
            assert "Check the key's capabilities" in str(caught.value.hint)
            with pytest.raises(AccessDeniedError) as caught:
                await storage.admin.set_cors_rules([])
            assert "do not exist" not in str(caught.value.hint)
