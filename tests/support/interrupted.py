"""Kills a rotation before and after each of its steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from careflow_storage import _env_file
from careflow_storage._s3.requests.objects import S3Requests
from careflow_storage._s3.transport import ResponseStream
from careflow_storage.keys import sinks
from careflow_storage.keys.b2_api import B2KeyClient

_PROBING = ("put_object", "get_object", "list_objects", "list_versions", "delete_object")


class KilledError(BaseException):
    """As if the process had ended."""


class Steps:
    """Counts the moments before and after each step, and strikes at one of them.

    ``dead``: nothing works any more from then on, as in a process that was killed. Otherwise
    only that one step fails, and what cleans up can do its work.
    """

    def __init__(self, strike_at: int | None = None, *, dead: bool = True) -> None:
        self.names: list[str] = []
        self.is_dead = False
        self._strike_at = strike_at
        self._dead = dead

    def moment(self, name: str) -> None:
        if self.is_dead:
            raise KilledError(name)
        self.names.append(name)
        if len(self.names) - 1 == self._strike_at:
            self.is_dead = self._dead
            raise KilledError(name)


@contextmanager
def striking(steps: Steps) -> Iterator[None]:
    """Let the steps of all rotations in here be counted and struck."""
    with pytest.MonkeyPatch.context() as patch:
        _around_native(patch, steps)
        for name in _PROBING:
            _around(patch, steps, S3Requests, name)
        write_env = _env_file.write_env

        def write(*given: Any) -> None:
            steps.moment("before write_env")
            write_env(*given)
            steps.moment("after write_env")

        patch.setattr(sinks, "write_env", write)
        yield


def _around_native(patch: pytest.MonkeyPatch, steps: Steps) -> None:
    locked: Any = B2KeyClient._locked

    def struck(self: B2KeyClient, operation: str, *given: Any) -> Any:
        steps.moment(f"before {operation}")
        response = locked(self, operation, *given)
        steps.moment(f"after {operation}")
        return response

    patch.setattr(B2KeyClient, "_locked", struck)


def _around(patch: pytest.MonkeyPatch, steps: Steps, owner: Any, name: str) -> None:
    call = getattr(owner, name)

    async def struck(*given: Any, **named: Any) -> Any:
        steps.moment(f"before {name}")
        response = await call(*given, **named)
        try:
            steps.moment(f"after {name}")
        except KilledError:
            if isinstance(response, ResponseStream):
                await response.aclose()
            raise
        return response

    patch.setattr(owner, name, struck)
