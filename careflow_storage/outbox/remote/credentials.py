"""The credentials for sources, which entries name. They are never written to the disk."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from careflow_storage._transfer.remote.source_request import SourceRequest
from careflow_storage.errors import InvalidInputError
from careflow_storage.outbox.errors import CredentialsError

SourceCredentials: TypeAlias = tuple[str, str] | Mapping[str, str]
"""Credentials for a source: user and password (Basic), or headers such as
``{"Authorization": "Bearer ..."}``."""

CredentialsLookup: TypeAlias = (
    Mapping[str, SourceCredentials]
    | Callable[[str], SourceCredentials | Awaitable[SourceCredentials | None] | None]
)
"""Credentials by name: a mapping, or a function that may be async."""

_LONGEST_NAME = 200


class NamedCredentials:
    """Looks credentials up. The repr shows none."""

    __slots__ = ("_lookup",)

    def __init__(self, lookup: CredentialsLookup | None) -> None:
        if lookup is not None and not isinstance(lookup, Mapping) and not callable(lookup):
            raise InvalidInputError(
                f"credentials must be a mapping or a function, not {type(lookup).__name__}.",
                hint='credentials={"twilio": (API_KEY, API_SECRET)}',
            )
        self._lookup = lookup

    async def request(self, url: str, name: str | None) -> SourceRequest:
        """Return the request for a URL with the credentials of this name, looked up now.

        Raises:
            CredentialsError: There are none, or they are no credentials.
        """
        if name is None:
            return SourceRequest(url, None, None)
        found = await self._find(name)
        if isinstance(found, tuple):
            return SourceRequest(url, found, None)
        if isinstance(found, Mapping):
            return SourceRequest(url, None, found)
        raise CredentialsError(
            f"The outbox has no credentials with the name {name!r}."
            if found is None
            else f"The credentials {name!r} are a {type(found).__name__}.",
            hint="Open it with Outbox(..., credentials={name: (user, password)}). "
            "The recording stays queued until then.",
        )

    async def _find(self, name: str) -> Any:
        lookup = self._lookup
        if lookup is None or isinstance(lookup, Mapping):
            return None if lookup is None else lookup.get(name)
        failure: str
        try:
            found = lookup(name)
            return await found if inspect.isawaitable(found) else found
        except Exception as error:  # noqa: BLE001 - its text may hold what it looked up
            failure = type(error).__name__
        raise CredentialsError(
            f"The lookup of the credentials {name!r} failed with {failure}.",
            hint="The recording stays queued. See the log of the function that looks them up.",
        )


def check_auth_name(name: object) -> None:
    """Refuse what cannot name credentials.

    Raises:
        InvalidInputError: It is no such name. The message does not contain it: it may be the
            credentials themselves.
    """
    if name is None:
        return
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
        raise InvalidInputError(
            f"auth_name must be a name of 1 to {_LONGEST_NAME} printable characters.",
            hint='Pass the credentials to the outbox: Outbox(..., credentials={"twilio": ...}).',
        )
