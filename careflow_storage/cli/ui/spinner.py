"""A spinner while a command waits for the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

from rich.status import Status
from rich.text import Text

from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.output import Output, counted

_EVERY = 0.5


@contextlib.asynccontextmanager
async def waiting(
    output: Output, what: str, requests: Callable[[], Mapping[str, int]] | None = None
) -> AsyncIterator[None]:
    """Show a spinner on stderr if that is a terminal, with the number of ``requests``."""
    if output.as_json or not output.stderr.is_terminal:
        yield
        return
    with output.stderr.status(Text(f"{clean(what)} ...")) as status:
        counter = asyncio.create_task(_count(status, what, requests)) if requests else None
        try:
            yield
        finally:
            if counter is not None:
                counter.cancel()
                await asyncio.wait([counter])


async def _count(status: Status, what: str, requests: Callable[[], Mapping[str, int]]) -> None:
    while True:
        await asyncio.sleep(_EVERY)
        status.update(Text(f"{clean(what)} ... {counted(sum(requests().values()), 'request')}"))
