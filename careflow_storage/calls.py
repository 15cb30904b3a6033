"""One call of a public method: its deadline, and which call it was, told in every error."""

from __future__ import annotations

import asyncio
from types import TracebackType

from careflow_storage.errors import StorageError
from careflow_storage.s3.deadline import Deadline


class Call:
    """The context in which a public method does its work.

    ``async with`` holds it to its ``timeout``; plain ``with`` is for methods that send nothing
    themselves. An error that leaves it names the method, the bucket and the key, where it does
    not do so by itself.
    """

    __slots__ = ("_bucket", "_deadline", "_key", "_operation", "_scope")

    def __init__(
        self,
        operation: str,
        bucket: str | None,
        key: str | None = None,
        timeout: float | None = None,
    ) -> None:
        self._operation = operation
        self._bucket = bucket
        self._key = key
        self._scope: asyncio.Timeout | None = None
        with self:
            self._deadline = Deadline(timeout)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(exc, StorageError):
            exc.operation = exc.operation or self._operation
            exc.bucket = exc.bucket or self._bucket
            exc.key = exc.key or self._key

    async def __aenter__(self) -> None:
        if self._deadline.timeout is not None:
            self._scope = self._deadline.scope()
            await self._scope.__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._scope is None:
            self.__exit__(exc_type, exc, traceback)
            return
        try:
            await self._scope.__aexit__(exc_type, exc, traceback)
        except TimeoutError as error:
            explained = self._deadline.explain(self._scope, error)
            self.__exit__(type(explained), explained, None)
            raise explained from error
        self.__exit__(exc_type, exc, traceback)
