"""Where the bytes of an entry come from, as the database stores it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Self

from careflow_storage.options import IfExists


@dataclass(frozen=True, slots=True)
class UrlSource:
    """The URL of a recording, and the rules for its requests. Times are in seconds.

    The database holds the URL with its query, which may contain a token. It holds the name of the
    credentials, never the credentials themselves.
    """

    url: str = field(repr=False)
    shown_url: str
    auth_name: str | None
    if_exists: IfExists
    max_size: int | None
    content_types: list[str] | None
    allow_private_addresses: bool
    max_redirects: int
    use_proxy: bool
    ready_within: float
    fetch_timeout: float

    def to_json(self) -> str:
        """Return the value of the column."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what the column holds."""
        return cls(**json.loads(text))
