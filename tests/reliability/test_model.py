"""Any sequence of calls, faults in between: what the storage says and the bucket holds agree.

Hypothesis makes the sequences. A model, a few lines of Python, says what the bucket must hold;
another client, past all faults, says what it does hold.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from careflow_storage import (
    BackblazeStorage,
    NoSuchKeyError,
    PreconditionFailedError,
    StorageError,
    StorageSettings,
)
from careflow_storage.local import LocalServer
from careflow_storage.testing.proxy.proxy import Attempt, FaultProxy, Rule
from tests.support.behind_proxy import NOTHING_HELD, PART, held, storage_behind
from tests.support.bucket import Bucket

pytestmark = pytest.mark.slow

KEYS = ["CA1/a", "CA1/a/b", "CA1/ä ö+&", "CA10/a", "CA2/%41"]
PREFIXES = ["", "CA1", "CA1/", "CA1/a", "CA10/", "missing/"]
FAULTS: dict[str, dict[str, Any]] = {
    "busy": {"status": 503, "code": "ServiceUnavailable"},
    "broken": {"status": 500, "code": "InternalError"},
    "too many": {"status": 429, "code": "TooManyRequests"},
    "reset": {"cut": "rst", "at": "head"},
    "reset in the request": {"cut": "rst", "at": ("req", 5)},
    "lost response": {"cut": "rst", "at": "resp"},
    "reset in the response": {"cut": "rst", "at": ("body", 20)},
    "end in the response": {"cut": "fin", "at": ("body", 20)},
    "reset while idle": {"cut": "rst", "at": "idle"},
    "refused": {"status": 403, "code": "AccessDenied"},
}


class Careless(FaultProxy):
    """Lets a share of all requests go wrong, in ways of its choice."""

    rate = 0.0
    dice = random.Random(0)
    kinds: tuple[str, ...] = ()

    def _choose(self, attempt: Attempt) -> Rule | None:
        if not self.kinds or self.dice.random() >= self.rate:
            return None
        return Rule(**FAULTS[self.dice.choice(self.kinds)])


class Stage:
    """A storage, opened once; each example has a folder of its own in its bucket."""

    def __init__(self, made: StorageSettings, part_size: int) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.part_size = part_size
        self.bucket = Bucket(made)
        self.runner.run(self._open(made))

    async def _open(self, made: StorageSettings) -> None:
        self.proxy = await self.stack.enter_async_context(Careless(made.endpoint or ""))
        self.storage: BackblazeStorage = await self.stack.enter_async_context(
            storage_behind(self.proxy, made, retry_attempts=5, idle_timeout=20.0)
        )
        self.storage.settings.__dict__.update(
            part_size=self.part_size, multipart_threshold=self.part_size
        )
        self.http = await self.stack.enter_async_context(aiohttp.ClientSession())

    def close(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()


class VersionedBucket(RuleBasedStateMachine):
    """Calls, and what must be true after each.

    ``history`` is the model: for each key the contents of its versions, the newest last, None
    for a delete marker. A replay may double a version; that is test_lost_responses' matter.
    """

    stage: Stage

    def __init__(self) -> None:
        super().__init__()
        self.folder = f"{uuid.uuid4().hex}/"
        self.history: dict[str, list[bytes | None]] = {}
        self.version_ids: dict[str, tuple[str, bytes]] = {}
        self.bucket, self.storage = self.stage.bucket, self.stage.storage
        self.proxy, self.part_size = self.stage.proxy, self.stage.part_size

    def run(self, call: Awaitable[Any]) -> tuple[Any, StorageError | None]:
        """Make a call; give its result or its error, if it is of the family."""

        async def act() -> tuple[Any, StorageError | None]:
            try:
                async with asyncio.timeout(60):
                    return await call, None
            except StorageError as error:
                return None, error

        return self.stage.runner.run(act())

    # --- what the model knows

    def visible(self) -> dict[str, bytes]:
        current = {key: versions[-1] for key, versions in self.history.items() if versions}
        return {key: body for key, body in current.items() if body is not None}

    def wrote(self, key: str, body: bytes | None) -> None:
        self.history.setdefault(key, []).append(body)

    def settle(self, key: str, wanted: bytes | None) -> None:
        """After an error: the old content or the wanted one, and never anything else."""
        found, before = self.bucket.content(key), self.visible().get(key)
        assert found in (before, wanted), "the key holds neither the old nor the new content"
        if found != before:
            self.wrote(key, wanted)

    def body_of(self, size: int) -> bytes:
        return uuid.uuid4().bytes + bytes(size)

    # --- faults

    @initialize(seed=st.integers(0, 2**16))
    def roll_dice(self, seed: int) -> None:
        self.proxy.dice = random.Random(seed)

    @rule(rate=st.sampled_from([0.1, 0.3, 0.6]), kinds=st.sets(st.sampled_from(sorted(FAULTS))))
    def switch_faults(self, rate: float, kinds: set[str]) -> None:
        self.proxy.rate, self.proxy.kinds = rate, tuple(sorted(kinds))

    # --- writing

    @rule(
        key=st.sampled_from(KEYS),
        parts=st.sampled_from([0.0, 0.5, 2.2]),
        streamed=st.booleans(),
        overwrite=st.booleans(),
    )
    def upload(self, key: str, parts: float, streamed: bool, overwrite: bool) -> None:
        key = self.folder + key
        body = self.body_of(int(parts * self.part_size))
        source = chunks(body) if streamed else body
        before = self.visible().get(key)
        result, error = self.run(self.storage.upload_file(key, source, overwrite=overwrite))
        if error is not None:
            if isinstance(error, PreconditionFailedError):
                assert before is not None, "our own lost response was taken for another client's"
            self.settle(key, body)
            return
        assert overwrite or before is None
        assert result.size == len(body)
        assert self.bucket.content(key) == body
        assert self.bucket.content(key, result.version_id) == body
        self.version_ids[key] = (result.version_id, body)
        self.wrote(key, body)

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: str) -> None:
        key = self.folder + key
        result, error = self.run(self.storage.delete_file(key))
        if error is not None:
            self.settle(key, None)
            return
        assert result.deleted
        assert self.bucket.content(key) is None
        self.wrote(key, None)

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True))
    def delete_many(self, keys: list[str]) -> None:
        keys = [self.folder + key for key in keys]
        results, error = self.run(self.storage.delete_files(keys))
        if error is not None:
            for key in keys:
                self.settle(key, None)
            return
        assert [result.key for result in results] == keys
        for result in results:
            assert result.deleted
            assert self.bucket.content(result.key) is None
            self.wrote(result.key, None)

    @precondition(lambda self: self.version_ids)
    @rule(data=st.data())
    def erase_a_version(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.version_ids)))
        version_id, _ = self.version_ids[key]
        result, error = self.run(self.storage.delete_file(key, version_id=version_id))
        gone = self.bucket.content(key, version_id) is None
        assert error is not None or (gone and result.deleted)
        if gone:
            del self.version_ids[key]
            # What is current now may be a doubled version of any age: look, do not guess.
            self.history[key] = [self.known(key, self.bucket.content(key))]

    def known(self, key: str, body: bytes | None) -> bytes | None:
        """Only what was once stored there may come back."""
        assert body is None or body in self.history[key]
        return body

    @rule(key=st.sampled_from(KEYS))
    def purge(self, key: str) -> None:
        key = self.folder + key
        _, error = self.run(self.storage.purge_file(key))
        if error is None:
            assert self.bucket.history(key) == []
            assert [upload for upload in self.bucket.unfinished() if upload[0] == key] == []
            self.history.pop(key, None)
            self.version_ids.pop(key, None)
            return
        self.history[key] = [
            *self.history.get(key, []),
            self.known_or_nothing(key, self.bucket.content(key)),
        ]
        version_id, _ = self.version_ids.get(key, ("", b""))
        if version_id and self.bucket.content(key, version_id) is None:
            del self.version_ids[key]

    def known_or_nothing(self, key: str, body: bytes | None) -> bytes | None:
        return self.known(key, body) if body is not None else None

    # --- reading

    @rule(prefix=st.sampled_from(PREFIXES), max_keys=st.sampled_from([None, 1, 2, 5]))
    def list_keys(self, prefix: str, max_keys: int | None) -> None:
        prefix = self.folder + prefix
        files, error = self.run(everything(self.storage.list_files(prefix, max_keys)))
        if error is None:
            expected = [(key, len(body)) for key, body in self.visible().items()]
            wanted = sorted(
                (each for each in expected if each[0].startswith(prefix)),
                key=lambda each: each[0].encode(),
            )
            assert [(file.key, file.size) for file in files] == wanted[:max_keys]

    @rule(key=st.sampled_from(KEYS))
    def get(self, key: str) -> None:
        key = self.folder + key
        body, error = self.run(self.storage.get_file(key))
        self.agrees(key, body, error)

    @rule(key=st.sampled_from(KEYS))
    def ask_about(self, key: str) -> None:
        key = self.folder + key
        there = key in self.visible()
        exists, error = self.run(self.storage.file_exists(key))
        assert error is not None or exists == there
        found, error = self.run(self.storage.get_file_metadata(key))
        self.agrees(key, None if found is None else found.size, error, of=len)

    @rule(key=st.sampled_from(KEYS))
    def get_by_signed_url(self, key: str) -> None:
        key = self.folder + key

        async def fetch() -> tuple[int, bytes]:
            url = await self.storage.get_signed_url(key)
            async with self.stage.http.get(url) as response:
                return response.status, await response.read()

        kinds, self.proxy.kinds = self.proxy.kinds, ()  # a browser has no retries of ours
        (status, body), _ = self.run(fetch())
        self.proxy.kinds = kinds
        expected = self.visible().get(key)
        assert (status, body if status == 200 else None) == (
            200 if expected is not None else 404,
            expected,
        )

    def agrees(
        self, key: str, found: Any, error: StorageError | None, of: Callable[[bytes], Any] = bytes
    ) -> None:
        expected = self.visible().get(key)
        if isinstance(error, NoSuchKeyError):
            assert expected is None
        elif error is None:
            assert expected is not None
            assert found == of(expected)

    # --- always

    @invariant()
    def nothing_is_held(self) -> None:
        async def look() -> dict[str, int]:
            return held(self.storage)

        assert self.stage.runner.run(look()) == NOTHING_HELD

    @invariant()
    def the_bucket_holds_what_the_model_says(self) -> None:
        history = self.bucket.history(prefix=self.folder)
        found = {kept.key for kept in history if kept.is_latest and not kept.is_marker}
        assert found == set(self.visible())

    def teardown(self) -> None:
        self.proxy.kinds = ()
        for key, body in self.visible().items():
            assert self.run(self.storage.get_file(key)) == (body, None)
        # Creations whose every response was lost, and aborts that were refused: nothing else.
        left, _ = self.run(self.storage.list_incomplete_uploads(self.folder))
        for upload in left:
            self.run(self.storage.abort_upload(upload.key, upload.upload_id))
        assert self.bucket.unfinished() == []
        for kept in self.bucket.history(prefix=self.folder):
            self.bucket.erase(kept.key, kept.version_id)


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 100_000):
        yield body[start : start + 100_000]


async def everything(listing: Awaitable[Any]) -> Any:
    return await listing


def run(made: StorageSettings, part_size: int, **profile: Any) -> None:
    stage = Stage(made, part_size)
    try:
        run_state_machine_as_test(
            type("Machine", (VersionedBucket,), {"stage": stage}),
            settings=settings(
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
                **profile,
            ),
        )
    finally:
        stage.close()


def test_whatever_is_called_in_whatever_order_the_storage_and_the_bucket_agree(
    moto_server: str,
) -> None:
    made = StorageSettings(
        key_id="test-key-id",
        application_key="test-application-key",
        bucket_name=f"model-{uuid.uuid4().hex[:16]}",
        endpoint=moto_server,
        region="us-east-1",
        retry_base_delay=0.0,
        retry_max_delay=0.0,
    )
    Bucket(made).create()
    run(made, PART, max_examples=20, stateful_step_count=15)


@pytest.mark.timeout(1800)
def test_on_a_real_server_they_agree_too(seaweedfs: LocalServer) -> None:
    bucket = f"model-{uuid.uuid4().hex[:16]}"
    seaweedfs.create_bucket(bucket)
    made = seaweedfs.settings(bucket_name=bucket, retry_base_delay=0.0, retry_max_delay=0.0)
    run(made, 5 * 1024 * 1024, max_examples=100, stateful_step_count=30)
