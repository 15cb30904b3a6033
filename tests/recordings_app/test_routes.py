"""The routes of the example app: what they do, and for whom."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from careflow_storage import BackblazeStorage
from careflow_storage.media import probe
from examples.recordings_app import AppSettings
from tests.support.behind_proxy import versions

pytest_plugins = ["careflow_storage.testing.plugin"]

ROOT = Path(__file__).parents[2] / "examples/recordings_app/static"
RECORDED = Path(__file__).parents[1] / "data/mediarecorder/recorded.webm"
AUDIO = bytes(range(256)) * 40
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


async def stored(storage: BackblazeStorage, call: str = "anna.CA1", **options: Any) -> str:
    """Store a recording; return its path in the app."""
    result = await storage.upload_recording(call, AUDIO, "call.webm", **options)
    _, _, name = result.key.split("/")
    return f"/api/recordings/{call.partition('.')[2]}/{name}"


async def listed(client: httpx.AsyncClient, where: str = "") -> list[dict[str, Any]]:
    response = await client.get(f"/api/recordings{where}")
    assert response.status_code == 200, response.text
    recordings: list[dict[str, Any]] = response.json()["recordings"]
    return recordings


# --- who may do what --------------------------------------------------------------------


def api_routes(app: Any) -> list[tuple[str, str]]:
    """The method and the path of every route, but that which signs in and out."""
    paths = app.openapi()["paths"]
    routes = [(method, path) for path, methods in paths.items() for method in methods]
    return [route for route in routes if route[1] != "/api/session" or route[0] == "get"]


async def test_every_route_needs_a_token(app: Any, stranger: httpx.AsyncClient) -> None:
    routes = api_routes(app)
    uploads = ("create", "s3/presign", "s3/multipart", "s3/multipart/x/complete")
    routes += [("post", f"/api/uploads/{path}") for path in uploads]
    routes += [("get", "/api/uploads/s3/multipart/x"), ("delete", "/api/uploads/s3/multipart/x")]
    assert len(routes) > 10
    for method, path in routes:
        path = re.sub(r"\{\w+\}", "x", path)
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "recordings_token=x"}):
            refused = await stranger.request(method, path, headers=headers)
            assert refused.status_code == 401, (method, path)


async def test_the_calls_of_another_user_are_not_there(
    emulated: BackblazeStorage, anna: httpx.AsyncClient, ben: httpx.AsyncClient
) -> None:
    path = await stored(emulated)
    for method, address in (
        ("GET", path),
        ("HEAD", path),
        ("GET", f"{path}/details"),
        ("DELETE", path),
        ("POST", f"{path}/restore"),
        ("GET", path.replace("CA1", "anna.CA1")),
    ):
        assert (await ben.request(method, address)).status_code == 404, (method, address)
    assert await listed(ben) == []
    assert await listed(ben, "/deleted") == []
    assert (await ben.get("/api/usage")).json()["files"] == 0
    assert len(await listed(anna)) == 1


@pytest.mark.parametrize("call", ["%2e%2e", "..%2fanna.CA1", "%2e%2e%2f%2e%2e", "a%00b"])
async def test_a_name_does_not_leave_the_user_s_calls(
    emulated: BackblazeStorage, ben: httpx.AsyncClient, call: str
) -> None:
    path = (await stored(emulated)).replace("CA1", call)
    for method in ("GET", "DELETE"):
        assert (await ben.request(method, path)).status_code in (404, 405, 422)
    assert len(await emulated.list_files("recordings/")) == 1


async def test_the_cookie_of_the_sign_in_is_enough_until_the_sign_out(
    stranger: httpx.AsyncClient,
) -> None:
    refused = await stranger.post("/api/session", json={"token": "a wrong token"})
    assert (refused.status_code, refused.json()) == (401, {"detail": "This token is not valid."})
    signed_in = await stranger.post("/api/session", json={"token": "the token of anna"})
    assert signed_in.json() == {"user": "anna"}
    cookie = signed_in.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert (await stranger.get("/api/session")).json() == {"user": "anna"}
    assert (await stranger.delete("/api/session")).status_code == 204
    assert (await stranger.get("/api/session")).status_code == 401


async def test_the_page_of_another_site_can_change_nothing(
    emulated: BackblazeStorage, anna: httpx.AsyncClient
) -> None:
    path = await stored(emulated)
    own = str(anna.base_url).rstrip("/")
    for origin in ("null", "http://[", f"{own}.evil.example", f"{own}@evil.example"):
        refused = await anna.delete(path, headers={"Origin": origin})
        assert refused.status_code == 403, origin
    foreign = {"Origin": "http://evil.example"}
    for method, address in (
        ("DELETE", path),
        ("POST", f"{path}/restore"),
        ("POST", "/api/uploads/create"),
        ("POST", "/api/session"),
    ):
        refused = await anna.request(method, address, headers=foreign)
        assert refused.status_code == 403, (method, address)
    assert (await anna.delete(path, headers={"Origin": own})).status_code == 200


@pytest.mark.parametrize(
    "users",
    [
        {"Anna": "a token that is long enough"},
        {"an.na": "a token that is long enough"},
        {"anna": "short"},
        {"anna": "a token that is long enough", "ben": "a token that is long enough"},
    ],
)
def test_users_whose_calls_would_mix_are_refused(users: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="users"):
        AppSettings.model_validate({"users": users})


# --- recordings -------------------------------------------------------------------------


async def test_recordings_are_listed_the_newest_first(
    emulated: BackblazeStorage, anna: httpx.AsyncClient
) -> None:
    await stored(emulated, "anna.CA1", recorded_at=NOON)
    await stored(emulated, "anna.CA2", recorded_at=NOON - timedelta(days=1))
    await stored(emulated, "anna.CA1", recorded_at=NOON + timedelta(hours=1))
    await emulated.upload_file("recordings/anna.CA3/without-a-time.ogg", AUDIO)
    recordings = await listed(anna)
    assert [(each["call"], each["title"]) for each in recordings] == [
        ("CA3", "without-a-time.ogg"),
        ("CA1", "call.webm"),
        ("CA1", "call.webm"),
        ("CA2", "call.webm"),
    ]
    assert recordings[2]["name"] == f"{NOON.timestamp() * 1000:.0f}-call.webm"
    assert recordings[2]["recorded_at"] == "2026-11-20T12:00:00Z"
    assert recordings[2]["size"] == len(AUDIO)


async def test_a_player_gets_the_range_that_it_asks_for(
    emulated: BackblazeStorage, anna: httpx.AsyncClient
) -> None:
    path = await stored(emulated)
    part = await anna.get(path, headers={"Range": "bytes=5000-5009"})
    assert (part.status_code, part.content) == (206, AUDIO[5000:5010])
    assert part.headers["content-range"] == f"bytes 5000-5009/{len(AUDIO)}"
    assert "content-disposition" not in part.headers
    whole = await anna.get(path, params={"download": "true"})
    assert whole.content == AUDIO
    assert 'filename="call.webm"' in whole.headers["content-disposition"]


async def test_a_deleted_recording_can_be_restored(
    emulated: BackblazeStorage, anna: httpx.AsyncClient
) -> None:
    path = await stored(emulated)
    (recording,) = await listed(anna)
    assert (await anna.get(f"{path}/details")).json()["content_type"] == "audio/webm"
    assert len(await emulated.list_files("details/")) == 1
    assert (await anna.delete(path)).json()["delete_marker"] is True
    assert await emulated.admin.list_file_versions("details/") == []
    assert await listed(anna) == []
    assert (await anna.get(path)).status_code == 404
    (deleted,) = await listed(anna, "/deleted")
    assert deleted.pop("deleted_at") > recording.pop("recorded_at")
    assert deleted["name"] == recording["name"]
    assert (await anna.post(f"{path}/restore")).status_code == 204
    assert await listed(anna, "/deleted") == []
    assert (await anna.get(path)).content == AUDIO


async def test_what_does_not_exist_is_neither_deleted_nor_restored(
    emulated: BackblazeStorage, anna: httpx.AsyncClient
) -> None:
    assert (await anna.delete("/api/recordings/CA1/1-a.webm")).status_code == 404
    assert (await anna.post("/api/recordings/CA1/1-a.webm/restore")).status_code == 404
    assert await emulated.admin.list_file_versions() == []


async def test_the_usage_counts_what_is_deleted_but_kept(
    emulated: BackblazeStorage, anna: httpx.AsyncClient
) -> None:
    await stored(emulated, "anna.CA1", recorded_at=NOON)
    await anna.delete(await stored(emulated, "anna.CA2"))
    await stored(emulated, "ben.CA3")
    usage = (await anna.get("/api/usage")).json()
    assert (usage["files"], usage["stored"], usage["hidden"]) == (1, len(AUDIO), len(AUDIO))
    assert {bar["label"]: (bar["stored"], bar["hidden"]) for bar in usage["calls"]} == {
        "CA1": (len(AUDIO), 0),
        "CA2": (0, len(AUDIO)),
    }
    assert sum(bar["stored"] + bar["hidden"] for bar in usage["months"]) == 2 * len(AUDIO)


# --- uploads ----------------------------------------------------------------------------


async def test_a_page_uploads_to_the_user_s_own_call(
    emulated: BackblazeStorage, anna: httpx.AsyncClient, ben: httpx.AsyncClient
) -> None:
    file = {"filename": "a.webm", "type": "audio/webm", "size": len(AUDIO)}
    created = await anna.post("/api/uploads/create", json={**file, "metadata": {"call_id": "CA9"}})
    ticket = created.json()["ticket"]
    request = {"ticket": ticket, "method": "PUT"}
    assert (await ben.post("/api/uploads/s3/presign", json=request)).status_code == 403
    signed = (await anna.post("/api/uploads/s3/presign", json=request)).json()
    async with httpx.AsyncClient(trust_env=False) as bucket:
        put = await bucket.put(signed["url"], headers=signed["headers"], content=AUDIO)
    assert put.status_code == 200, put.text
    done = await anna.post(f"/api/uploads/s3/multipart/{ticket}/complete", json={})
    assert done.json()["key"].startswith("recordings/anna.CA9/")
    (recording,) = await listed(anna)
    assert (recording["call"], recording["title"]) == ("CA9", "a.webm")
    assert await versions(emulated, done.json()["key"]) == (1, 0)


async def test_an_uploaded_recording_gets_its_duration_at_once(
    emulated: BackblazeStorage, anna: httpx.AsyncClient
) -> None:
    recorded = RECORDED.read_bytes()  # by a browser's MediaRecorder
    file = {"filename": "a.webm", "type": "audio/webm", "size": len(recorded)}
    created = await anna.post("/api/uploads/create", json={**file, "metadata": {"call_id": "CA9"}})
    ticket = created.json()["ticket"]
    request = {"ticket": ticket, "method": "PUT"}
    signed = (await anna.post("/api/uploads/s3/presign", json=request)).json()
    async with httpx.AsyncClient(trust_env=False) as bucket:
        await bucket.put(signed["url"], headers=signed["headers"], content=recorded)
    done = await anna.post(f"/api/uploads/s3/multipart/{ticket}/complete", json={})
    assert done.status_code == 200, done.text
    info = await probe(emulated, done.json()["key"])
    assert info.seekable
    assert info.duration is not None
    # The version without an index is gone.
    assert await versions(emulated, done.json()["key"]) == (1, 0)


# --- the page ---------------------------------------------------------------------------


async def test_the_page_runs_no_script_of_others(stranger: httpx.AsyncClient) -> None:
    page = await stranger.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; connect-src 'self' http://127.0.0.1:")
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=|https?://", page.text)


def test_every_file_that_the_page_names_is_there() -> None:
    page = (ROOT / "index.html").read_text()
    named = re.findall(r'(?:href|src)="([\w/.-]+)"', page)
    for script in (ROOT / "js").iterdir():
        named += [f"js/{name}" for name in re.findall(r'from "\./([\w.-]+)"', script.read_text())]
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_scripts_find_every_element_and_icon_that_they_name() -> None:
    page = (ROOT / "index.html").read_text()
    ids = set(re.findall(r'\bid="([\w-]+)"', page))
    scripts = "".join(script.read_text() for script in (ROOT / "js").iterdir())
    wanted = set(re.findall(r'byId\("([\w-]+)"\)', scripts))
    wanted |= {f"tpl-{name}" for name in re.findall(r'copyOf\("([\w-]+)"\)', scripts)}
    wanted |= set(re.findall(r'#(icon-[\w-]+)"', page + scripts))
    assert wanted
    assert wanted - ids == set()
