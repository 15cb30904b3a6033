"""Sign-in by a token, and which calls belong to which user.

Replace this module with your own sign-in. The rest of the app uses `CurrentUser` and `call_id_of`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import BaseModel, SecretStr
from starlette.requests import HTTPConnection

COOKIE = "recordings_token"
_SECONDS = 12 * 3600


class Accounts:
    """The users and their tokens. Only digests of the tokens are compared."""

    def __init__(self, users: Mapping[str, SecretStr]) -> None:
        self._users = {_digest(token.get_secret_value()): name for name, token in users.items()}

    def user_with(self, token: str) -> str | None:
        """Return the user who has this token."""
        return self._users.get(_digest(token))


def current_user(connection: HTTPConnection) -> str:
    """Return the signed-in user, or raise a 401 (a WebSocket is closed with 403)."""
    accounts: Accounts = connection.app.state.accounts
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        token = connection.cookies.get(COOKIE, "")
    user = accounts.user_with(token)
    if user is None:
        raise HTTPException(401, "Sign in first.", {"WWW-Authenticate": "Bearer"})
    return user


CurrentUser = Annotated[str, Depends(current_user)]


def call_id_of(user: str, call: str) -> str:
    """Return the ID under which a user's call is stored.

    It begins with the user's name, so a user cannot name another user's call. An app with a
    database looks up there whether the call is the user's.
    """
    return f"{user}.{call}"


def key_of(user: str, call: str, name: str) -> str:
    """Return the key of one recording of a user's call."""
    return f"{prefix_of(user)}{call}/{name}"


def prefix_of(user: str) -> str:
    """Return the prefix of the keys of all recordings of a user."""
    return f"recordings/{call_id_of(user, '')}"


class Token(BaseModel):
    """What the sign-in form sends."""

    token: SecretStr


router = APIRouter(prefix="/api/session")


@router.post("")
async def sign_in(body: Token, request: Request, response: Response) -> dict[str, str]:
    """Set a cookie that scripts cannot read, since ``<audio>`` sends no other credentials."""
    token = body.token.get_secret_value()
    user = request.app.state.accounts.user_with(token)
    if user is None:
        raise HTTPException(401, "This token is not valid.")
    response.set_cookie(
        *(COOKIE, token, _SECONDS),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return {"user": user}


@router.get("")
async def who(user: CurrentUser) -> dict[str, str]:
    """Return the signed-in user."""
    return {"user": user}


@router.delete("", status_code=204)
async def sign_out(response: Response) -> None:
    """Delete the cookie."""
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
