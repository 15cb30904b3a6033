"""Manage application keys by B2's native API, with b2sdk in threads.

The S3 API cannot create keys. The interface ``b2sdk.v3`` uses version 4 of the native API. With
versions 1 to 3, listings omit keys for several buckets (apidocs/b2-list-keys).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import SecretStr

from careflow_storage._executor import in_thread
from careflow_storage._log_fields import log_fields
from careflow_storage._uninterrupted import clean_up_to_end
from careflow_storage.errors import (
    AccessDeniedError,
    MissingExtraError,
    NoSuchBucketError,
    ServerResponseError,
    StorageError,
)
from careflow_storage.keys.b2_errors import CAPABILITY, typed_error
from careflow_storage.keys.b2_logs import PendingRequests, guard_logs
from careflow_storage.keys.models import CreatedKey, KeyInfo
from careflow_storage.keys.presets import KeyLimits

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("careflow_storage")

_PAGE = 1000  # A larger page is billed as several calls (apidocs/b2-list-keys).
_CONNECT_SECONDS = 10.0
_READ_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The response to b2_authorize_account: the key's capabilities, and the S3 endpoint."""

    capabilities: frozenset[str]
    s3_url: str


class B2KeyClient:
    """A client of the native API, with one application key. Signs in on first use.

    b2sdk retries failed requests (5 attempts, about 8 s). Its calls cannot be interrupted: a
    cancelled call continues and its response is dropped. A key that such a call creates is
    deleted again.
    """

    def __init__(self, key_id: str, application_key: SecretStr, realm: str) -> None:
        self.key_id = key_id
        self._application_key = application_key
        self._realm = realm
        # Held in the threads: only one thread at a time may use b2sdk's connections.
        self._turn = threading.Lock()
        self._api: Any = None
        self._pending = PendingRequests("b2_create_key")
        self._bucket_names: dict[str, str] = {}

    async def sign_in(self) -> SignedIn:
        """Return the capabilities of the key. 1 request, only the first time."""
        return await in_thread(self._locked, "b2_authorize_account", self._allowance)

    async def list_keys(self) -> list[KeyInfo]:
        """List all keys but the master key. 1 request per 1000, and 1 for the buckets' names."""
        entries = await in_thread(self._locked, "b2_list_keys", self._entries)
        ids = {each for entry in entries for each in entry.get("bucketIds") or ()}
        if ids - self._bucket_names.keys():
            await in_thread(self._locked, "b2_list_buckets", self._learn_buckets)
        return [_key_info(entry, self._bucket_names) for entry in entries]

    async def bucket_id(self, name: str) -> str:
        """Look up the ID of a bucket. 1 request.

        Raises:
            NoSuchBucketError: The account has no such bucket, or the key may not use it.
        """
        await in_thread(self._locked, "b2_list_buckets", self._learn_buckets, name)
        for each, found in self._bucket_names.items():
            if found == name:
                return each
        raise NoSuchBucketError(
            "The account has no such bucket, or the key that signs in may not use it.",
            operation="b2_list_buckets",
            bucket=name,
        )

    async def create_key(self, name: str, limits: KeyLimits) -> CreatedKey:
        """Create a key. 1 request. If cancelled, leaves no key behind."""
        job = asyncio.ensure_future(
            in_thread(self._locked, "b2_create_key", self._create, name, limits)
        )
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            await clean_up_to_end(self._discard(job))
            raise

    async def delete_key(self, key_id: str) -> KeyInfo:
        """Delete a key. 1 request.

        Raises:
            NoSuchApplicationKeyError: There is no such key.
        """
        entry = await in_thread(self._locked, "b2_delete_key", self._delete, key_id)
        return _key_info(entry, self._bucket_names)

    async def _discard(self, job: asyncio.Future[CreatedKey]) -> None:
        await asyncio.wait({job})
        if job.exception() is not None:
            return
        key_id = job.result().key_id
        try:
            await self.delete_key(key_id)
        except StorageError as error:
            # The caller gets the cancellation.
            logger.error(
                "the key %s is not used, and could not be deleted: %s",
                key_id,
                error,
                extra=log_fields("key_left", error, key_id=key_id),
            )

    # --- in a thread, one at a time -----------------------------------------------------

    def _locked(self, operation: str, function: Callable[..., T], *given: object) -> T:
        with self._turn:
            if self._api is None:
                self._api = _translated("b2_authorize_account", self._signed_in)
            self._require(operation)
            return _translated(operation, function, *given)

    def _signed_in(self) -> Any:
        api = new_api()
        # The method of the session: that of the API fails if the key's bucket was deleted.
        api.session.authorize_account(
            self._realm, self.key_id, self._application_key.get_secret_value()
        )
        http = getattr(api.session.raw_api, "b2_http", None)
        if http is not None:
            http.add_callback(self._pending)
        for each in api.account_info.get_allowed()["buckets"] or ():
            if each["name"] is not None:
                self._bucket_names[each["id"]] = each["name"]
        return api

    def _require(self, operation: str) -> None:
        needed = CAPABILITY.get(operation)
        if needed is not None and needed not in self._allowance().capabilities:
            raise AccessDeniedError(
                f"The key {self.key_id} lacks a capability.",
                operation=operation,
                code="unauthorized",
                hint=f"The key that signs in needs {needed}.",
            )

    def _allowance(self) -> SignedIn:
        info = self._api.account_info
        return SignedIn(frozenset(info.get_allowed()["capabilities"]), info.get_s3_api_url())

    def _entries(self) -> list[dict[str, Any]]:
        account, found = self._api.account_info.get_account_id(), []
        start: str | None = None
        while True:
            page = self._api.session.list_keys(account, _PAGE, start)
            found += page["keys"]
            following = page.get("nextApplicationKeyId")
            if following is None:
                return found
            if start is not None and following <= start:
                raise ServerResponseError(
                    "The listing of keys repeats itself.", operation="b2_list_keys"
                )
            start = following

    def _learn_buckets(self, name: str | None = None) -> None:
        allowed = self._api.account_info.get_allowed()["buckets"]
        if allowed:
            return  # Such a key may not list all buckets; the sign-in returns their names.
        account = self._api.account_info.get_account_id()
        response = self._api.session.list_buckets(account, bucket_name=name)
        for each in response["buckets"]:
            self._bucket_names[each["bucketId"]] = each["bucketName"]

    def _create(self, name: str, limits: KeyLimits) -> CreatedKey:
        self._pending.count = 0
        lifetime = limits.lifetime
        # The method of the session: that of the API drops a key if B2 changed its capabilities.
        entry = self._api.session.create_key(
            self._api.account_info.get_account_id(),
            sorted(limits.capabilities),
            name,
            None if lifetime is None else int(lifetime.total_seconds()),
            None if limits.bucket_ids is None else list(limits.bucket_ids),
            limits.prefix,
        )
        if self._pending.count > 0:
            logger.warning(
                "B2 did not respond to the first request to create the key %s: there may be a "
                "second key with this name, whose secret is lost; delete it",
                name,
                extra=log_fields("key_may_be_left"),
            )
        info = _key_info(entry, self._bucket_names)
        return CreatedKey(**dict(info), application_key=SecretStr(entry["applicationKey"]))

    def _delete(self, key_id: str) -> dict[str, Any]:
        response: dict[str, Any] = self._api.session.delete_key(key_id)
        return response


def new_api() -> Any:
    """Make b2sdk's API without files on disk, and with a timeout for every request."""
    try:
        import requests
        from b2sdk.v3 import B2Api, B2HttpApiConfig, InMemoryAccountInfo
    except ImportError as error:
        raise MissingExtraError("admin") from error
    guard_logs()

    class Session(requests.Session):
        def request(self, *given: Any, **named: Any) -> requests.Response:
            # b2sdk's own timeout is 20 minutes.
            named["timeout"] = (_CONNECT_SECONDS, _READ_SECONDS)
            return super().request(*given, **named)

    # The hook fails on responses without a Date, and changes the locale of the process.
    config = B2HttpApiConfig(http_session_factory=Session, install_clock_skew_hook=False)
    return B2Api(InMemoryAccountInfo(), api_config=config)


def _translated(operation: str, function: Callable[..., T], *given: object) -> T:
    try:
        return function(*given)
    except StorageError:
        raise
    except Exception as error:  # noqa: BLE001 - b2sdk raises AssertionError and KeyError for malformed responses
        typed = typed_error(operation, error)
    # Outside the handler: the frames of the original error hold the key and the headers.
    raise typed


def _key_info(entry: Mapping[str, Any], names: Mapping[str, str]) -> KeyInfo:
    ids = entry.get("bucketIds")
    expires = entry.get("expirationTimestamp")
    return KeyInfo(
        key_id=entry["applicationKeyId"],
        name=entry["keyName"],
        capabilities=_ordered(entry["capabilities"]),
        bucket_ids=None if ids is None else tuple(ids),
        bucket_names=None if ids is None else tuple(names[each] for each in ids if each in names),
        prefix=entry.get("namePrefix") or None,
        expires_at=None if expires is None else datetime.fromtimestamp(expires / 1000, UTC),
    )


def _ordered(capabilities: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(capabilities))
