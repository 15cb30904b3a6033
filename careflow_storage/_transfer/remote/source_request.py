"""The request to a source. A module of its own, since the others here import aiohttp."""

from __future__ import annotations

from collections.abc import Mapping


class SourceRequest:
    """The URL, credentials and headers. They may be secrets, so the repr shows none of them."""

    __slots__ = ("auth", "headers", "url")

    def __init__(
        self, url: str, auth: tuple[str, str] | None, headers: Mapping[str, str] | None
    ) -> None:
        self.url: str = url
        self.auth: tuple[str, str] | None = auth
        self.headers: Mapping[str, str] | None = headers
