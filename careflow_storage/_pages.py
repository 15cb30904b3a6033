"""Listings that come page by page."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Pages(ABC, Generic[T]):
    """Entries that come in pages: ``await`` it for all, or iterate with one page in memory."""

    @abstractmethod
    def pages(self) -> AsyncIterator[list[T]]:
        """Yield the entries in lists, one for each page; none for an empty listing."""

    def __await__(self) -> Generator[Any, None, list[T]]:
        return self._all().__await__()

    async def __aiter__(self) -> AsyncIterator[T]:
        async for page in self.pages():
            for entry in page:
                yield entry

    async def _all(self) -> list[T]:
        return [entry async for page in self.pages() for entry in page]
