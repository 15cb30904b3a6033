"""A presigned URL as the source of an upload: the error when it is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from careflow_storage import BackblazeStorage, SourceError
from careflow_storage.testing import B2Server
from tests.support.url_source import Source

NOW = datetime.now(UTC)
PAST, FUTURE = NOW - timedelta(hours=2), NOW + timedelta(hours=2)


def sigv4(begin: datetime, seconds: int, vendor: str = "X-Amz") -> str:
    return (
        f"{vendor}-Algorithm=AWS4-HMAC-SHA256&{vendor}-Date={begin:%Y%m%dT%H%M%SZ}"
        f"&{vendor}-Expires={seconds}&{vendor}-Signature=5ec4e7"
    )


EXPIRED = {
    "S3": sigv4(PAST, 3600),
    "S3, lower case": sigv4(PAST, 3600, "x-amz"),
    "Google": sigv4(PAST, 3600, "X-Goog"),
    "S3, signature version 2": f"AWSAccessKeyId=a&Expires={PAST.timestamp():.0f}&Signature=5ec4e7",
    "CloudFront": f"Expires={PAST.timestamp():.0f}&Key-Pair-Id=k&Signature=5ec4e7",
    "Azure": f"sv=2024&se={PAST:%Y-%m-%dT%H:%M:%SZ}&sig=5ec4e7",
}
SIGNED = {
    "S3": sigv4(PAST, 86400),
    "CloudFront": f"Expires={FUTURE.timestamp():.0f}&Key-Pair-Id=k&Signature=5ec4e7",
    "not a time": "Expires=soon&Signature=5ec4e7",
    "beyond all time": "Expires=99999999999999999999&Signature=5ec4e7",
    "no time at all": sigv4(PAST, 0).replace("X-Amz-Date", "X-Amz-Day"),
}


async def refusal(query: str, status: int) -> SourceError:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="<Error><Code>UnauthorizedAccess</Code></Error>")

    with B2Server() as server:
        async with (
            BackblazeStorage(server.settings()) as storage,
            Source(b"x", routes={"/file": refuse}) as source,
        ):
            with pytest.raises(SourceError) as caught:
                await storage.upload_from_url(
                    "CA1", f"{source.origin}/file?{query}", "a.wav", allow_private_addresses=True
                )
        assert not server.versions()
    assert "5ec4e7" not in str(caught.value)
    assert caught.value.status == status
    assert not caught.value.retryable
    return caught.value


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("query", EXPIRED.values(), ids=EXPIRED.keys())
async def test_the_error_says_that_the_url_has_expired(query: str, status: int) -> None:
    error = await refusal(query, status)
    assert "expired at 2" in error.message
    assert "auth=" not in str(error.hint)
    assert "new URL" in str(error.hint)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("query", SIGNED.values(), ids=SIGNED.keys())
async def test_the_hint_for_a_refused_presigned_url_asks_for_no_password(
    query: str, status: int
) -> None:
    error = await refusal(query, status)
    assert "presigned URL" in error.message
    assert "may have expired" in str(error.hint)


@pytest.mark.parametrize("query", ["", "Expires=1", "id=7"])
async def test_the_hint_for_another_url_asks_for_a_password(query: str) -> None:
    error = await refusal(query, 401)
    assert "Pass auth=" in str(error.hint)
