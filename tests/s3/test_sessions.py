"""Credentials from a session that the caller brings, and the client that the storage lends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    InvalidCredentialsError,
    InvalidInputError,
    NotConfiguredError,
    StorageSettings,
)
from tests.support.bodies import noise
from tests.support.hostile import Asked, HostileServer, raw_response


async def ask_by_the_client(storage: BackblazeStorage) -> None:
    client = await storage.client()
    await client.list_buckets()


CALLS_WITH_A_TOKEN: dict[str, Callable[[BackblazeStorage], Awaitable[Any]]] = {
    "put": lambda storage: storage.upload_file("a", b"x"),
    "list": lambda storage: storage.list_files(),
    "client": ask_by_the_client,
}


def without_keys(settings: StorageSettings) -> StorageSettings:
    """Settings that only say where the bucket is."""
    return StorageSettings(
        bucket_name=settings.bucket_name,
        endpoint=settings.endpoint,
        region=settings.region,
        multipart_threshold=100_000,
        retry_base_delay=0.001,
    )


def secret(settings: StorageSettings) -> str:
    assert settings.application_key is not None
    return settings.application_key.get_secret_value()


def aioboto3_session(settings: StorageSettings, application_key: str | None = None) -> Any:
    import aioboto3

    return aioboto3.Session(
        aws_access_key_id=settings.key_id,
        aws_secret_access_key=application_key or secret(settings),
        region_name="us-east-1",
    )


def aiobotocore_session(settings: StorageSettings, application_key: str | None = None) -> Any:
    from aiobotocore.session import AioSession

    session = AioSession()
    session.set_credentials(settings.key_id, application_key or secret(settings))
    return session


@pytest.mark.integration
@pytest.mark.parametrize("make", [aioboto3_session, aiobotocore_session])
class TestGivenSessions:
    async def test_given_a_session_when_used_for_everything_then_its_credentials_are_taken(
        self, seaweed_settings: StorageSettings, make: Any
    ) -> None:
        settings = without_keys(seaweed_settings)
        storage = BackblazeStorage(settings, session=make(seaweed_settings))
        assert storage.is_configured()
        async with storage:
            data = noise(200_000)
            await storage.upload_file("small", b"x")
            assert (await storage.upload_file("large", data)).etag.endswith("-1")
            assert await storage.get_file("large") == data
            assert len(await storage.list_files()) == 2
            assert "X-Amz-Signature" in await storage.get_signed_url("small")
            assert (await storage.purge_file("large")).versions == 1

    async def test_given_a_session_with_a_wrong_key_then_the_settings_do_not_help_it(
        self, seaweed_settings: StorageSettings, make: Any
    ) -> None:
        session = make(seaweed_settings, "wrong")
        async with BackblazeStorage(seaweed_settings, session=session) as storage:
            with pytest.raises(InvalidCredentialsError):
                await storage.upload_file("small", b"x")


@pytest.mark.integration
async def test_given_credentials_that_are_renewed_then_each_request_has_those_of_its_moment(
    seaweed_settings: StorageSettings,
) -> None:
    from aiobotocore.credentials import AioRefreshableCredentials
    from aiobotocore.session import AioSession

    issued: list[str] = []

    def issue() -> dict[str, str]:
        issued.append(secret(seaweed_settings) if len(issued) != 1 else "wrong for a while")
        # Over at once: every request asks anew.
        over = datetime.now(UTC) + timedelta(seconds=1)
        return {
            "access_key": str(seaweed_settings.key_id),
            "secret_key": issued[-1],
            "token": "",
            "expiry_time": over.isoformat(),
        }

    async def refresh() -> dict[str, str]:
        return issue()

    session = AioSession()
    session._credentials = AioRefreshableCredentials.create_from_metadata(
        issue(), refresh_using=refresh, method="test"
    )
    async with BackblazeStorage(without_keys(seaweed_settings), session=session) as storage:
        with pytest.raises(InvalidCredentialsError):
            await storage.upload_file("a", b"x")
        await storage.upload_file("a", b"x")
        await storage.upload_file("large", noise(200_000))
        await storage.get_signed_url("a")
    assert len(issued) > 4


def boto3_session() -> Any:
    import boto3

    return boto3.Session()


def botocore_session() -> Any:
    import botocore.session

    return botocore.session.get_session()


def boto3_client() -> Any:
    return boto3_session().client("s3", region_name="us-east-1")


def a_class() -> Any:
    import aioboto3

    return aioboto3.Session


WRONG_SESSIONS: dict[str, Callable[[], Any]] = {
    "boto3": boto3_session,
    "botocore": botocore_session,
    "client": boto3_client,
    "class": a_class,
    "text": lambda: "session",
    "credentials": lambda: ("id", "secret"),
    "mapping": dict,
    "false": lambda: False,
    "zero": lambda: 0,
    "empty": lambda: "",
}


@pytest.mark.parametrize("kind", WRONG_SESSIONS)
def test_given_what_is_no_async_session_then_it_is_refused_at_once(
    settings: StorageSettings, kind: str
) -> None:
    wrong = WRONG_SESSIONS[kind]()
    with pytest.raises(InvalidInputError, match="session must be an aioboto3") as caught:
        BackblazeStorage(settings, session=wrong)
    assert isinstance(caught.value, TypeError)
    assert "aioboto3.Session()" in str(caught.value.hint)


@pytest.mark.parametrize("make", [aioboto3_session, aiobotocore_session])
def test_given_an_async_session_then_it_is_taken(settings: StorageSettings, make: Any) -> None:
    assert BackblazeStorage(settings, session=make(settings)).is_configured()


@pytest.mark.parametrize("call", ["put", "list", "client", "url"])
async def test_given_settings_with_a_session_token_then_it_goes_with_every_request(
    call: str,
) -> None:
    heads: list[str] = []

    def response(asked: Asked) -> bytes:
        heads.append(str(asked))
        return raw_response(
            b"<Error><Code>InvalidToken</Code><Message>m</Message></Error>", "403 Forbidden"
        )

    async with HostileServer(response) as server:
        settings = server.settings(session_token="the-token")
        async with BackblazeStorage(settings) as storage:
            if call == "url":
                heads.append(await storage.get_signed_url("a"))
            else:
                with pytest.raises(Exception, match="InvalidToken"):
                    await CALLS_WITH_A_TOKEN[call](storage)
    assert "the-token" in heads[0]


async def test_given_a_session_without_any_credentials_then_the_error_says_so(
    settings: StorageSettings,
) -> None:
    from aiobotocore.session import AioSession

    async with BackblazeStorage(without_keys(settings), session=AioSession()) as storage:
        with pytest.raises(NotConfiguredError, match="credentials"):
            await storage.upload_file("a", b"x")
        with pytest.raises(NotConfiguredError, match="credentials"):
            await storage.get_signed_url("a")
        with pytest.raises(NotConfiguredError, match="credentials"):
            await storage.upload_file("a", noise(200_000))


class TestTheClient:
    async def test_given_the_client_then_it_does_what_has_no_method_here(
        self, storage: BackblazeStorage
    ) -> None:
        client = await storage.client()
        bucket = storage.settings.bucket_name
        await storage.upload_file("a", b"x")
        await client.put_object_tagging(
            Bucket=bucket, Key="a", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]}
        )
        tags = await client.get_object_tagging(Bucket=bucket, Key="a")
        assert tags["TagSet"] == [{"Key": "a", "Value": "b"}]

    async def test_given_tasks_that_ask_for_it_at_once_then_all_get_the_same(
        self, storage: BackblazeStorage
    ) -> None:
        clients = await asyncio.gather(*(storage.client() for _ in range(5)))
        assert len({id(client) for client in clients}) == 1

    async def test_given_it_is_being_made_then_the_event_loop_goes_on(
        self, storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from aiobotocore.session import AioSession

        making = AioSession._create_client
        threads: list[int] = []

        async def observed(session: AioSession, *args: Any, **kwargs: Any) -> Any:
            threads.append(threading.get_ident())
            return await making(session, *args, **kwargs)

        monkeypatch.setattr(AioSession, "_create_client", observed)
        await storage.client()
        assert len(threads) == 1
        assert threads[0] != threading.get_ident()

    async def test_given_it_is_being_made_when_cancelled_then_the_next_one_gets_it(
        self, storage: BackblazeStorage
    ) -> None:
        making = asyncio.create_task(storage.client())
        await asyncio.sleep(0)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        client = await storage.client()
        assert await client.list_objects_v2(Bucket=storage.settings.bucket_name)
