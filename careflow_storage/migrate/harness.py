"""Run the calls of old code, with a client that is configured as there, below one prefix."""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp

from careflow_storage._s3.boto.errors import explain
from careflow_storage._s3.redaction import printable
from careflow_storage._s3.session import S3Session
from careflow_storage.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    InvalidCredentialsError,
    NoSuchBucketError,
    StorageError,
)
from careflow_storage.models import Model
from careflow_storage.settings import StorageSettings

_CLEANING_SECONDS = 30.0
_CODE = re.compile(r"<Code>([A-Za-z0-9_.]{1,64})</Code>")
# If the first upload fails for one of these, no check is possible.
_HOPELESS = (
    AccessDeniedError,
    ConnectionFailedError,
    InvalidCredentialsError,
    NoSuchBucketError,
)


class OldCodeFinding(Model):
    """The result of one call that code for AWS S3 makes.

    Attributes:
        what: The purpose of the call.
        code: The call.
        verdict: ``works``, ``differs`` (the server accepts it, with another effect), ``fails``,
            or ``skipped`` (the key may not make it, so the result is unknown).
        response: The server's response, unless the call just works.
        change: What to change in the code, if necessary.
    """

    what: str
    code: str
    verdict: Literal["works", "differs", "fails", "skipped"]
    response: str | None = None
    change: str | None = None

    @property
    def answer(self) -> str | None:
        """The former name of `response`; reading it warns."""
        warnings.warn(
            "OldCodeFinding.answer is now OldCodeFinding.response.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.response


class DiffersError(Exception):
    """The server accepted the call, but its effect differs from that on AWS."""


class FailedError(Exception):
    """A call failed without an exception of its own; the text says how."""


@dataclass(frozen=True, slots=True)
class CodeCheck:
    """One call to try. ``change`` is the advice if it does not just work."""

    what: str
    code: str
    run: Callable[[Harness], Awaitable[None]]
    change: str
    needed: bool = False

    def finding(
        self, verdict: Literal["works", "differs", "fails", "skipped"], response: str | None
    ) -> OldCodeFinding:
        return OldCodeFinding(
            what=self.what,
            code=self.code,
            verdict=verdict,
            response=response,
            change=None if verdict in ("works", "skipped") else self.change,
        )


class Harness:
    """Runs checks with a client, below one prefix."""

    def __init__(self, session: S3Session, client: Any, prefix: str) -> None:
        self.settings: StorageSettings = session.settings
        self.client = client
        self.bucket: str = session.bucket
        self.key: str = f"{prefix}recording.webm"
        self._session = session
        self._prefix = prefix

    def other(self, name: str) -> dict[str, str]:
        """Return the bucket and key of another object, as arguments."""
        return {"Bucket": self.bucket, "Key": f"{self._prefix}{name}"}

    @property
    def same(self) -> dict[str, str]:
        """Return the bucket and key of the object that all checks read, as arguments."""
        return {"Bucket": self.bucket, "Key": self.key}

    async def run(self, check: CodeCheck) -> OldCodeFinding:
        try:
            async with asyncio.timeout(self.settings.idle_timeout):
                await check.run(self)
        except DiffersError as difference:
            return check.finding("differs", str(difference))
        except FailedError as refusal:
            return check.finding("fails", str(refusal))
        except TimeoutError:
            return check.finding("fails", f"no response within {self.settings.idle_timeout:g} s")
        except Exception as error:
            explained = self._explained(error)
            if check.needed and isinstance(explained, _HOPELESS):
                raise explained from error
            if isinstance(explained, AccessDeniedError):
                return check.finding("skipped", _response(explained))
            return check.finding("fails", _response(explained))
        return check.finding("works", None)

    async def send(self, method: str, url: str, **options: Any) -> bytes:
        """Send a presigned request as a browser does; raise `FailedError` for a refusal."""
        tls = self._session.tls
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=True if tls is None else tls),
                    cookie_jar=aiohttp.DummyCookieJar(),
                ) as http,
                http.request(method, url, allow_redirects=False, **options) as response,
            ):
                body = await response.content.read(4096)
                if response.status < 300:
                    return body
        except aiohttp.ClientError as error:
            raise FailedError(f"the connection failed ({type(error).__name__})") from None
        code = _CODE.search(body.decode(errors="replace"))
        raise FailedError(f"{response.status} {code[1] if code else response.reason}")

    async def clean_up(self) -> tuple[str, ...]:
        """Erase everything that was stored; return the keys that could not be erased."""
        left: set[str] = set()
        try:
            async with asyncio.timeout(_CLEANING_SECONDS):
                await self._erase_all(left)
        except TimeoutError:
            left.add(f"{self._prefix}...")
        return tuple(sorted(left))

    async def _erase_all(self, left: set[str]) -> None:
        where = {"Bucket": self.bucket, "Prefix": self._prefix}
        everything = f"{self._prefix}..."
        uploads = await self._erase(everything, left, self.client.list_multipart_uploads, where)
        for upload in uploads.get("Uploads", ()):
            # Some servers ignore the prefix: other files must not be erased.
            if upload["Key"].startswith(self._prefix):
                target = {
                    "Bucket": self.bucket,
                    "Key": upload["Key"],
                    "UploadId": upload["UploadId"],
                }
                await self._erase(upload["Key"], left, self.client.abort_multipart_upload, target)
        versions = await self._erase(everything, left, self.client.list_object_versions, where)
        for version in (*versions.get("Versions", ()), *versions.get("DeleteMarkers", ())):
            if not version["Key"].startswith(self._prefix):
                continue
            target = {
                "Bucket": self.bucket,
                "Key": version["Key"],
                "VersionId": version["VersionId"],
            }
            await self._erase(version["Key"], left, self.client.delete_object, target)

    async def _erase(
        self, what: str, left: set[str], call: Callable[..., Awaitable[Any]], where: dict[str, str]
    ) -> dict[str, Any]:
        """Make one call of the cleanup; add ``what`` to ``left`` if it fails."""
        try:
            response: dict[str, Any] = await call(**where)
        except Exception as error:
            if explain(error, self._where()) is None:
                raise
            left.add(what)
            return {}
        return response

    def _explained(self, error: Exception) -> StorageError:
        """Translate an error of the client; raise any other error again."""
        explained = explain(error, self._where())
        if explained is None:
            raise error
        return explained

    def _where(self) -> dict[str, str | None]:
        return {"operation": None, "bucket": self.bucket, "key": None}


def _response(error: StorageError) -> str:
    return " ".join(
        str(each) for each in (error.status, error.code, printable(error.message)) if each
    )
