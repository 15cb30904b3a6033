"""The calls of B2's native API for keys, on the same port as the S3 API.

Everything that b2sdk needs to create, list and delete application keys: versions 3 and 4 of
b2_authorize_account, b2_list_buckets, b2_create_key, b2_list_keys and b2_delete_key. Fields,
capabilities and error codes follow their pages below www.backblaze.com/apidocs; the messages are
our own. There are no native calls for files: use the S3 API.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from careflow_storage.testing.b2.errors import B2Response
from careflow_storage.testing.b2.keys import CAPABILITIES, ApplicationKey, KeyRing
from careflow_storage.testing.b2.native_documents import bucket_document, storage_api_document

if TYPE_CHECKING:
    from careflow_storage.testing.b2.store import MotoStore

_PATH = re.compile(r"/b2api/(?P<version>v[34])/(?P<call>b2_[a-z_]+)")
_KEY_NAME = re.compile(r"[A-Za-z0-9-]{1,100}")
_LONGEST = 1000 * 24 * 3600
_TOKEN_LIFE = timedelta(hours=24)
_MOST_KEYS = 10_000


class NativeAccount(Protocol):
    """The part of the account that the S3 API shares."""

    keys: KeyRing
    tls: bool

    def now(self) -> datetime:
        """The server's time."""


@dataclass(frozen=True, slots=True)
class _Token:
    key_id: str
    ends: datetime


@dataclass(frozen=True, slots=True)
class _Call:
    """A call and its key. Version 3 has keys for one bucket only, version 4 for several."""

    key: ApplicationKey
    version: str
    given: dict[str, Any]


class _NativeError(Exception):
    """The call is refused, with the native API's status, code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class NativeApi:
    """The native API of one account."""

    def __init__(self, account: NativeAccount, store: MotoStore) -> None:
        self._account = account
        self._store = store
        self._tokens: dict[str, _Token] = {}
        self._calls: dict[str, tuple[str, Callable[[_Call], dict[str, Any]]]] = {
            "b2_list_buckets": ("listBuckets", self._list_buckets),
            "b2_create_key": ("writeKeys", self._create_key),
            "b2_list_keys": ("listKeys", self._list_keys),
            "b2_delete_key": ("deleteKeys", self._delete_key),
        }

    def response(self, target: str, headers: dict[str, str], body: bytes) -> B2Response:
        """Return the response to a request below ``/b2api/``; header names in lower case."""
        try:
            status, document = 200, self._response(target, headers, body)
        except _NativeError as error:
            status = error.status
            document = {"status": status, "code": error.code, "message": error.message}
        return B2Response(
            status, {"Content-Type": "application/json"}, json.dumps(document).encode()
        )

    def _response(self, target: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        path = _PATH.fullmatch(target.partition("?")[0])
        if path is None:
            raise _NativeError(404, "not_found", "There is no such call here")
        if path["call"] == "b2_authorize_account":
            return self._authorize(path["version"], headers)
        if path["call"] not in self._calls:
            raise _NativeError(404, "not_found", "There is no such call here")
        capability, call = self._calls[path["call"]]
        key = self._key_of(headers.get("authorization", ""))
        if capability not in key.capabilities:
            raise _NativeError(401, "unauthorized", f"The key has no {capability}")
        given = _read(body)
        if "accountId" in given and given["accountId"] != self._account.keys.account_id:
            raise _NativeError(401, "unauthorized", "The account is another one")
        return call(_Call(key, path["version"], given))

    def _authorize(self, version: str, headers: dict[str, str]) -> dict[str, Any]:
        key = self._by_password(headers.get("authorization", ""))
        token = f"4_{secrets.token_hex(16)}"
        self._tokens[token] = _Token(key.key_id, self._account.now() + _TOKEN_LIFE)
        url = f"{'https' if self._account.tls else 'http'}://{headers.get('host', '')}"
        buckets = self._buckets_of(key)
        allowed: dict[str, Any] = {
            "capabilities": sorted(key.capabilities),
            "namePrefix": key.name_prefix or None,
        }
        api = storage_api_document(url)
        if version == "v4":
            api["allowed"] = {"buckets": buckets, **allowed}
        elif buckets is not None and len(buckets) > 1:
            raise _NativeError(401, "unauthorized", "Keys for several buckets need version 4")
        else:
            one = buckets[0] if buckets else {"id": None, "name": None}
            api |= {"bucketId": one["id"], "bucketName": one["name"], **allowed}
        return {
            "accountId": self._account.keys.account_id,
            "apiInfo": {"storageApi": api},
            "applicationKeyExpirationTimestamp": _milliseconds(key.expires_at),
            "authorizationToken": token,
        }

    def _by_password(self, authorization: str) -> ApplicationKey:
        scheme, _, text = authorization.partition(" ")
        try:
            key_id, _, secret = base64.b64decode(text).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            key_id, secret = "", ""
        key = self._living(key_id)
        if scheme != "Basic" or key is None or not _same(secret, key.application_key):
            # The code of an unknown key, as in b2sdk's simulator.
            raise _NativeError(401, "unauthorized", "The key ID or the application key is wrong")
        return key

    def _key_of(self, token: str) -> ApplicationKey:
        found = self._tokens.get(token)
        key = None if found is None else self._living(found.key_id)
        if found is None or key is None:
            raise _NativeError(401, "bad_auth_token", "Invalid authorization token")
        if found.ends <= self._account.now():
            raise _NativeError(401, "expired_auth_token", "The authorization token has expired")
        return key

    def _living(self, key_id: str) -> ApplicationKey | None:
        ring = self._account.keys
        if key_id == ring.master.key_id:
            return ring.master
        living = ring.living(self._account.now())
        return next((key for key in living if key.key_id == key_id), None)

    # --- the calls ----------------------------------------------------------------------

    def _list_buckets(self, call: _Call) -> dict[str, Any]:
        """A restricted key must name its bucket (the page on capabilities, b2java#151)."""
        wanted_id, wanted = call.given.get("bucketId"), call.given.get("bucketName")
        found = [
            name
            for name in sorted(self._store.backend.buckets)
            if wanted in (None, name) and wanted_id in (None, self._id_of(name))
        ]
        own = call.key.buckets
        asked = wanted is not None or wanted_id is not None
        if own is not None and not (asked and own.issuperset(found)):
            raise _NativeError(401, "unauthorized", "The key is restricted to other buckets")
        account = self._account.keys.account_id
        return {
            "buckets": [bucket_document(account, self._id_of(name), name) for name in found],
        }

    def _create_key(self, call: _Call) -> dict[str, Any]:
        """Create a key, with the limits of apidocs/b2-create-key."""
        given = call.given
        name, capabilities = given.get("keyName"), given.get("capabilities")
        if not isinstance(name, str) or not _KEY_NAME.fullmatch(name):
            raise _bad("keyName must be 1 to 100 letters, digits and hyphens")
        if not isinstance(capabilities, list) or not capabilities:
            raise _bad("capabilities must be given")
        if unknown := [each for each in capabilities if each not in CAPABILITIES]:
            raise _bad(f"capability {unknown[0]} is not known")
        seconds = given.get("validDurationInSeconds")
        if seconds is not None and not (isinstance(seconds, int) and 0 < seconds < _LONGEST):
            raise _bad("validDurationInSeconds must be more than 0 and less than 1000 days")
        now = self._account.now()
        made = self._account.keys.create(
            capabilities,
            self._wanted_buckets(call),
            given.get("namePrefix") or "",
            None if seconds is None else now + timedelta(seconds=seconds),
            name,
        )
        return {**self._described(made, call), "applicationKey": made.application_key}

    def _wanted_buckets(self, call: _Call) -> list[str] | None:
        if call.version == "v4":
            ids = call.given.get("bucketIds")
        else:
            ids = None if call.given.get("bucketId") is None else [call.given["bucketId"]]
        if ids is None:
            return None
        names = {self._id_of(name): name for name in self._store.backend.buckets}
        if any(each not in names for each in ids):
            raise _NativeError(400, "bad_bucket_id", "There is no bucket of this ID")
        return [names[each] for each in ids]

    def _list_keys(self, call: _Call) -> dict[str, Any]:
        """List keys; versions before 4 omit keys for several buckets (apidocs/b2-list-keys)."""
        most = call.given.get("maxKeyCount") or 100
        if not isinstance(most, int) or not 1 <= most <= _MOST_KEYS:
            raise _bad(f"maxKeyCount must be 1 to {_MOST_KEYS}")
        start = call.given.get("startApplicationKeyId") or ""
        keys = [
            key
            for key in self._account.keys.living(self._account.now())
            if key.key_id >= start
            and (call.version == "v4" or key.buckets is None or len(key.buckets) == 1)
        ]
        following = keys[most].key_id if len(keys) > most else None
        return {
            "keys": [self._described(key, call) for key in keys[:most]],
            "nextApplicationKeyId": following,
        }

    def _delete_key(self, call: _Call) -> dict[str, Any]:
        key_id = call.given.get("applicationKeyId")
        key = self._living(key_id) if isinstance(key_id, str) else None
        if key is None or key is self._account.keys.master:
            raise _bad(f"application key does not exist: {key_id}")
        self._account.keys.delete(key.key_id)
        return self._described(key, call)

    # --- descriptions -------------------------------------------------------------------

    def _described(self, key: ApplicationKey, call: _Call) -> dict[str, Any]:
        ids = None if key.buckets is None else sorted(map(self._id_of, key.buckets))
        where = {"bucketIds": ids} if call.version == "v4" else {"bucketId": ids and ids[0]}
        return {
            "accountId": self._account.keys.account_id,
            "applicationKeyId": key.key_id,
            "capabilities": sorted(key.capabilities),
            "expirationTimestamp": _milliseconds(key.expires_at),
            "keyName": key.name,
            "namePrefix": key.name_prefix or None,
            "options": ["s3"],
            **where,
        }

    def _buckets_of(self, key: ApplicationKey) -> list[dict[str, Any]] | None:
        if key.buckets is None:
            return None
        there = self._store.backend.buckets
        return [
            {"id": self._id_of(name), "name": name if name in there else None}
            for name in sorted(key.buckets)
        ]

    def _id_of(self, name: str) -> str:
        account = self._account.keys.account_id
        return hashlib.sha256(f"{account}/{name}".encode()).hexdigest()[:24]


def _read(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body or b"{}")
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise _NativeError(400, "bad_json", "The body is not a JSON object")
    return given


def _bad(message: str) -> _NativeError:
    return _NativeError(400, "bad_request", message)


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())
