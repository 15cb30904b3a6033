"""A URL reaches only public addresses, whatever its name, form or redirects."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage import BackblazeStorage, InvalidInputError, SourceError, StorageSettings
from careflow_storage._transfer.remote import ssrf
from careflow_storage._transfer.remote.ssrf import is_public, parse_url
from tests.support.bodies import noise
from tests.support.url_source import Source, assert_nothing_stored, redirect, store

PRIVATE = [
    *("0.0.0.1", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1"),
    *("127.255.255.255", "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255"),
    *("192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255"),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1"),
    *("255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe"),
    *("::ffff:0:127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::8.8.8.8"),
    *("100::1", "2001::1", "2001:0:7f00:1::", "2001:db8::1", "2002:7f00:1::", "2002:808:808::"),
    *("3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%1", "fec0::1"),
    *("ff02::1", "4000::1"),
]
PUBLIC = [
    *("8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1"),
    *("168.63.129.17", "223.255.255.255", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"),
    *("2606:4700:4700::1111", "2a00:1450::1", "2001:200::1", "2620:fe::fe"),
]

Resolver = Callable[[dict[str, list[str]]], None]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Resolve names to the given addresses; each lookup returns the next one of its list."""

    def install(table: dict[str, list[str]]) -> None:
        async def resolve(
            _: aiohttp.ThreadedResolver, host: str, port: int = 0, family: int = 0
        ) -> list[dict[str, Any]]:
            found = table[host]
            address = found.pop(0) if len(found) > 1 else found[0]
            kind = socket.AF_INET6 if ":" in address else socket.AF_INET
            fields = {"hostname": host, "host": address, "port": port, "family": kind}
            return [{**fields, "proto": 0, "flags": socket.AI_NUMERICHOST}]

        monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", resolve)

    return install


@pytest.fixture
def two_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.2 counts as public, 127.0.0.1 does not."""
    monkeypatch.setattr(ssrf, "_NOT_PUBLIC_V4", (IPv4Network("127.0.0.1/32"),))


async def refused(storage: BackblazeStorage, url: str, **fields: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        await store(storage, url, allow_private_addresses=False, **fields)
    assert not caught.value.retryable
    await assert_nothing_stored(storage)
    return caught.value


class TestRules:
    @pytest.mark.parametrize("address", PRIVATE)
    def test_special_purpose_addresses_are_not_public(self, address: str) -> None:
        assert not is_public(ip_address(address))

    @pytest.mark.parametrize("address", PUBLIC)
    def test_internet_addresses_are_public(self, address: str) -> None:
        assert is_public(ip_address(address))

    @given(st.ip_addresses())
    def test_every_address_that_python_calls_private_is_not_public(
        self, address: IPv4Address | IPv6Address
    ) -> None:
        embeds = any(address in network for network in ssrf._EMBEDDING)
        if is_public(address) and not embeds:
            assert not address.is_multicast
            assert not address.is_private
            assert not address.is_reserved

    @given(st.ip_addresses(v=4))
    def test_an_ipv4_address_in_an_ipv6_one_is_judged_as_itself(self, address: IPv4Address) -> None:
        for form in (f"::ffff:{address}", f"64:ff9b::{address}"):
            assert is_public(IPv6Address(form)) == is_public(address)

    @given(st.text() | st.text().map("https://{}".format) | st.text().map("http://a/{}".format))
    def test_any_text_is_a_url_for_http_or_a_value_error_that_does_not_repeat_it(
        self, text: str
    ) -> None:
        problem = ""
        try:
            url = parse_url(text)
        except ValueError as error:
            problem = str(error)
        else:
            assert url.scheme in ("http", "https")
            assert url.raw_host
            assert str(url).isascii()
        assert len(text) < 20 or text not in problem


async def test_a_private_address_in_the_url_is_refused_before_any_request(
    storage: BackblazeStorage,
) -> None:
    for address in PRIVATE:
        host = f"[{address.replace('%', '%25')}]" if ":" in address else address
        for url in (f"http://{host}/latest/meta-data", f"https://{host}:8443/"):
            with pytest.raises(InvalidInputError, match="not a public one"):
                await store(storage, url, allow_private_addresses=False)
    await assert_nothing_stored(storage)


@pytest.mark.parametrize("allowed", [False, True])
async def test_an_address_in_an_unusual_form_is_always_refused(
    storage: BackblazeStorage, allowed: bool
) -> None:
    for host in ("2130706433", "0x7f.1", "0x7f000001", "127.1", "0177.0.0.1", "127.0.0.01", "0"):
        with pytest.raises(InvalidInputError, match="four decimal numbers"):
            await store(storage, f"http://{host}/", allow_private_addresses=allowed)


@pytest.mark.parametrize("host", ["localhost", "localhost.", "LOCALHOST", "127.0.0.1."])
async def test_names_of_this_machine_are_refused(storage: BackblazeStorage, host: str) -> None:
    async with Source(noise(100)) as source:
        await refused(storage, f"http://{host}:{source.port}/call")
        assert source.asked == []


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "fd00::1"])
async def test_a_public_name_of_a_private_address_is_refused(
    storage: BackblazeStorage, names: Resolver, address: str
) -> None:
    names({"recordings.example": [address]})
    async with Source(noise(100)) as source:
        error = await refused(storage, f"http://recordings.example:{source.port}/call")
        assert "not a public one" in str(error)
        assert "allow_private_addresses" in str(error)
        assert source.asked == []


@pytest.mark.usefixtures("two_hosts")
@pytest.mark.parametrize("status", [302, 308])
async def test_a_redirect_to_a_private_address_is_refused(
    storage: BackblazeStorage, names: Resolver, status: int
) -> None:
    names({"inside.example": ["127.0.0.1"]})
    async with Source(noise(100), host="127.0.0.2") as outside, Source(noise(100)) as inside:
        for host in ("127.0.0.1", "inside.example", "[::ffff:127.0.0.1]"):
            target = f"http://{host}:{inside.port}/call"
            outside.routes["/go"] = redirect(target, status)
            await refused(storage, f"{outside.origin}/go")
        outside.routes["/go"] = redirect(f"http://2130706433:{inside.port}/call", status)
        await refused(storage, f"{outside.origin}/go")
        assert inside.asked == []
        assert len(outside.asked) == 4


@pytest.mark.usefixtures("two_hosts")
async def test_a_name_that_resolves_to_a_private_address_the_second_time_is_refused(
    storage: BackblazeStorage, names: Resolver
) -> None:
    async with Source(noise(100), host="127.0.0.2") as outside:
        names({"rebinding.example": ["127.0.0.2", "127.0.0.1"]})
        origin = f"http://rebinding.example:{outside.port}"
        outside.routes["/go"] = redirect("/call")
        await refused(storage, f"{origin}/go")
        assert [request.path for request in outside.asked] == ["/go"]
        names({"rebinding.example": ["127.0.0.2"]})
        result = await store(storage, f"{origin}/go", allow_private_addresses=False)
        assert result.size == 100


async def test_an_unknown_host_is_not_retried(
    storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups = []

    async def resolve(_: aiohttp.ThreadedResolver, host: str, *__: Any, **___: Any) -> None:
        lookups.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", resolve)
    assert "no such host" in str(await refused(storage, "https://recordings.exmaple/call"))
    assert lookups == ["recordings.exmaple"]


# --- redirects --------------------------------------------------------------------------


async def test_credentials_stay_with_the_origin_that_they_are_for(
    storage: BackblazeStorage,
) -> None:
    secrets = {"X-Api-Key": "s3cret", "Cookie": "a=b"}
    async with Source(noise(100)) as twilio, Source(noise(100)) as cdn:
        twilio.routes["/call"] = redirect("/moved")
        twilio.routes["/moved"] = redirect(f"{cdn.origin}/back?signature=x", 307)
        cdn.routes["/back"] = redirect(f"{twilio.origin}/last")
        twilio.routes["/last"] = twilio.give
        await store(storage, twilio.url, auth=("AC1", "s3cret"), headers=secrets)
        sent = [
            (request.path, {"Authorization", *secrets} & set(request.headers))
            for request in (*twilio.asked, *cdn.asked)
        ]
        everything = {"Authorization", *secrets}
        assert sent == [
            ("/call", everything),
            ("/moved", everything),
            ("/last", set()),
            ("/back", set()),
        ]


async def test_a_refusal_after_a_redirect_says_that_no_credentials_were_sent(
    storage: BackblazeStorage,
) -> None:
    async with Source() as source, Source() as other:
        source.routes["/call"] = redirect(other.url)
        other.routes["/call"] = redirect(f"{other.origin}/never", 401)
        with pytest.raises(SourceError, match="no credentials go") as caught:
            await store(storage, source.url, auth=("AC1", "token"))
        assert caught.value.status == 401


@pytest.mark.parametrize("limit", [0, 1, 5])
async def test_a_redirect_loop_ends_at_the_limit(storage: BackblazeStorage, limit: int) -> None:
    async with Source(noise(100)) as source:
        source.routes["/call"] = redirect("/call")
        with pytest.raises(SourceError, match=f"more than {limit} times"):
            await store(storage, source.url, max_redirects=limit)
        assert len(source.asked) == limit + 1
        await assert_nothing_stored(storage)


async def test_as_many_redirects_as_allowed_are_followed_relative_ones_too(
    storage: BackblazeStorage,
) -> None:
    async with Source(noise(100)) as source:
        source.routes["/a/b"] = redirect("../c?x=1")
        source.routes["/c"] = redirect(f"//127.0.0.1:{source.port}/call#fragment", 308)
        await store(storage, f"{source.origin}/a/b", max_redirects=2)
        assert [request.path_qs for request in source.asked] == ["/a/b", "/c?x=1", "/call"]


@pytest.mark.parametrize(
    "location",
    ["", "ftp://example.com/", "file:///etc/passwd", "http://u:s3cret@127.0.0.1/", "http://[::1"],
)
async def test_a_redirect_to_an_invalid_url_is_refused(
    storage: BackblazeStorage, location: str
) -> None:
    async with Source(noise(100)) as source:
        source.routes["/call"] = redirect(location)
        with pytest.raises(SourceError, match="redirects to") as caught:
            await store(storage, source.url)
        assert "s3cret" not in str(caught.value)
        await assert_nothing_stored(storage)


# --- TLS --------------------------------------------------------------------------------


def self_signed(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS for 127.0.0.1, and the certificate to trust."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(
        [*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    return tls, certificate


async def test_over_https_the_source_must_be_trusted_and_must_not_lead_to_http(
    settings: StorageSettings, tmp_path: Path
) -> None:
    tls, ca_file = self_signed(tmp_path)
    async with Source(noise(100), tls=tls) as source, Source(noise(100)) as plain:
        async with BackblazeStorage(settings) as storage:
            with pytest.raises(SourceError, match="no trusted TLS") as caught:
                await store(storage, source.url)
            assert not caught.value.retryable
        trusting = settings.model_copy(update={"ca_file": ca_file})
        async with BackblazeStorage(trusting) as storage:
            assert (await store(storage, source.url)).size == 100
            source.routes["/down"] = redirect(plain.url)
            with pytest.raises(SourceError, match="from https to http"):
                await store(storage, f"{source.origin}/down")
            assert plain.asked == []
            assert len(await storage.list_files()) == 1
