"""The entries of an outbox, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator

from careflow_storage._method_call import MethodCall
from careflow_storage._pages import Pages
from careflow_storage.outbox.models import OutboxEntry, OutboxState
from careflow_storage.outbox.store import OutboxStore

_PAGE_ENTRIES = 200


class EntryListing(Pages[OutboxEntry]):
    """Entries of an outbox: ``await`` it for a list, or iterate with ``async for``."""

    def __init__(
        self, store: OutboxStore, state: OutboxState | None, method: str = "entries"
    ) -> None:
        self._store = store
        self._state = state
        self._method = method

    async def pages(self) -> AsyncIterator[list[OutboxEntry]]:
        """Yield lists of up to 200 entries; none for an empty listing."""
        last = 0
        while True:
            with MethodCall(self._method, None):
                entries, last = await self._store.queue.page(self._state, last, _PAGE_ENTRIES)
            if entries:
                yield entries
            if len(entries) < _PAGE_ENTRIES:
                return
