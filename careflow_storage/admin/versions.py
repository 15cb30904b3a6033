"""Versions: list them, erase them, bring a file back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterable
from typing import Any, Literal

from pydantic import AwareDatetime

from careflow_storage.models import DeleteResult, Model, PurgeResult
from careflow_storage.s3.requests import S3Requests
from careflow_storage.transfer.engine import Engine


class FileVersion(Model):
    """A version of a file, or a delete marker (``size`` 0, no ETag)."""

    key: str
    version_id: str | None
    is_latest: bool
    delete_marker: bool
    size: int
    last_modified: AwareDatetime
    etag: str


class RestoreResult(Model):
    """How a file came back: ``unhidden``, ``copied`` to the top, or it ``was_there`` already.

    ``version_id`` is the version that can be seen now.
    """

    key: str
    how: Literal["unhidden", "copied", "was_there"]
    version_id: str | None


class VersionListing:
    """All versions and delete markers below a prefix: awaited, iterated, or page by page."""

    def __init__(
        self,
        requests: Callable[[], S3Requests],
        prefix: str,
        max_versions: int | None,
        timeout: float | None = None,
    ) -> None:
        raise NotImplementedError

    def __await__(self) -> Generator[Any, None, list[FileVersion]]:
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[FileVersion]:
        raise NotImplementedError

    def pages(self) -> AsyncIterator[list[FileVersion]]:
        """Yield lists of up to 1000 versions."""
        raise NotImplementedError


async def delete_version(
    engine: Engine, key: str, version_id: str, *, bypass_governance: bool
) -> DeleteResult:
    raise NotImplementedError


async def delete_versions(
    engine: Engine,
    targets: Iterable[FileVersion | tuple[str, str]],
    *,
    bypass_governance: bool,
) -> list[DeleteResult]:
    raise NotImplementedError


async def restore(engine: Engine, key: str, version_id: str | None) -> RestoreResult:
    raise NotImplementedError


async def purge(engine: Engine, key: str, *, confirm: str) -> PurgeResult:
    raise NotImplementedError


async def purge_all(
    engine: Engine, prefix: str, *, confirm: str | None, dry_run: bool
) -> PurgeResult:
    raise NotImplementedError
