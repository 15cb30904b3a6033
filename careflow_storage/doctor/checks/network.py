"""Check the path to the server: name, connection, certificate, HTTP and clock."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp

from careflow_storage._dates import parse_date
from careflow_storage._endpoint import b2_region, host_of, is_loopback
from careflow_storage._executor import in_thread
from careflow_storage._http.environment_proxy import environment_proxy
from careflow_storage._s3.redaction import printable
from careflow_storage._s3.responses.check import is_marked
from careflow_storage._s3.tls import tls_context
from careflow_storage._s3.xml import documents
from careflow_storage.doctor.context import REQUEST_SECONDS, DoctorContext, Unsigned
from careflow_storage.doctor.explain import in_words
from careflow_storage.doctor.models import Outcome, failed, passed, warned
from careflow_storage.errors import InvalidInputError

_CONNECT_SECONDS = 5.0
_SLOW_SECONDS = 0.5
_SOON = timedelta(days=14)
_SKEW_WARNED = timedelta(minutes=1)
_SKEW_FAILED = timedelta(minutes=10)
# OpenSSL's X509_V_FLAG_NO_CHECK_TIME; the module ssl has no name for it.
_WITHOUT_TIME = 0x200000
_DEFAULT_PORTS = {"http": 80, "https": 443}
_CHECK_NETWORK = "Check BACKBLAZE_ENDPOINT, the network and its firewall."


async def endpoint(context: DoctorContext) -> Outcome:
    """Report the kind of server. The settings have checked the endpoint's form."""
    url = context.endpoint
    host = host_of(url)
    region = b2_region(host)
    try:
        proxy = environment_proxy(url)
    except InvalidInputError as error:
        return failed(error.message, "Requests cannot use this proxy.", error.hint or "")
    way = f", through the proxy {proxy.authority} ({proxy.variable})" if proxy else ""
    if region is not None:
        return passed(f"{url} is Backblaze B2, region {region}{way}")
    if url.startswith("http://") and not is_loopback(host):
        return warned(
            f"{url} has no TLS",
            "Every host on the network path can read and change the recordings.",
            "Use an https:// endpoint.",
        )
    place = "on this machine" if is_loopback(host) else "other than Backblaze's"
    return passed(f"{url} is a server {place}{way}")


async def dns(context: DoctorContext) -> Outcome:
    """Look up the addresses of the host, or of its proxy."""
    host, port, is_proxy = _first_hop(context)
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return passed(f"{host} is an IP address")
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        what = "the proxy's name" if is_proxy else "this name"
        reason = "no response" if type(error) is TimeoutError else getattr(error, "strerror", error)
        return failed(
            f"No address found for {host} ({reason}).",
            f"DNS does not know {what}, or cannot be reached.",
            "Check BACKBLAZE_ENDPOINT for typos, then the network and its DNS.",
        )
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    shown = ", ".join(addresses[:4]) + (" …" if len(addresses) > 4 else "")
    return passed(f"{host} is {shown} ({_ms(time.perf_counter() - started)})")


async def tcp(context: DoctorContext) -> Outcome:
    """Connect and close."""
    host, port, is_proxy = _first_hop(context)
    started = time.perf_counter()
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return failed(
            f"{host}:{port} refuses the connection.",
            "No server listens there: it is not running, or the port is wrong.",
            "Start the server, or correct BACKBLAZE_ENDPOINT.",
        )
    except TimeoutError:
        return failed(
            f"No connection to {host}:{port} within {_CONNECT_SECONDS:g} s.",
            "A firewall drops the packets, or the address is wrong.",
            _CHECK_NETWORK,
        )
    except OSError as error:
        return failed(
            f"No connection to {host}:{port} ({error.strerror or type(error).__name__}).",
            "The network has no route to it.",
            _CHECK_NETWORK,
        )
    seconds = time.perf_counter() - started
    await _close(writer)
    what = "the proxy" if is_proxy else "connected"
    return passed(f"{host}:{port} {what} ({_ms(seconds)})")


async def tls(context: DoctorContext) -> Outcome | None:
    """Verify the certificate as the storage does. Does not apply to http or behind a proxy."""
    url = context.endpoint
    if not url.startswith("https://") or environment_proxy(url) is not None:
        return None
    host, port, _ = _first_hop(context)
    ssl_context = await in_thread(tls_context, context.quick())
    try:
        connection = await _tls_session(host, port, ssl_context)
    except ssl.SSLCertVerificationError as error:
        return await _untrusted(context, host, port, error)
    except ssl.SSLError as error:
        return failed(
            f"No TLS with {host}:{port} ({error.reason or 'handshake failed'}).",
            "The port does not support TLS (an http server, or a proxy), or only versions below "
            "1.2.",
            "Check the port and the scheme in BACKBLAZE_ENDPOINT.",
        )
    except (OSError, TimeoutError) as error:
        return failed(
            f"The TLS handshake with {host}:{port} broke off ({type(error).__name__}).",
            "The port does not support TLS (an http server?), or a firewall breaks the connection.",
            "Check the port and the scheme in BACKBLAZE_ENDPOINT, and the firewall.",
        )
    version, certificate = connection
    found = f"{version}, {_described(certificate)}"
    ends = _ends(certificate)
    if ends is not None and ends - datetime.now(UTC) < _SOON:
        return warned(
            found, "The certificate expires soon.", "Renew it, or ask the server's operator."
        )
    return passed(found)


async def _untrusted(
    context: DoctorContext, host: str, port: int, error: ssl.SSLCertVerificationError
) -> Outcome:
    reason = printable(error.verify_message.rstrip("."), 200)
    certificate = await _untrusted_certificate(host, port)
    found = f"The certificate is not trusted: {reason}."
    if certificate:
        found += f" It is {_described(certificate)}."
    ca_file = context.current.ca_file
    if "expired" in reason or "not yet valid" in reason:
        return failed(
            found,
            "The certificate has expired or is not valid yet, or this machine's clock is wrong.",
            "Check the clock. If it is right, the server's operator must renew the certificate.",
        )
    if "mismatch" in reason.lower() or "not valid for" in reason.lower():
        return failed(
            found,
            "The certificate is for another name: another server or a proxy responds.",
            "Use the name of the certificate in BACKBLAZE_ENDPOINT.",
        )
    if ca_file is not None:
        return failed(
            found,
            f"It was not signed by an authority in {ca_file} (BACKBLAZE_CA_FILE), which "
            "replaces the system's.",
            "Put the certificate of its authority into that file, or remove the setting.",
        )
    return failed(
        found,
        "A private authority signed it (your own server, or a proxy that inspects traffic), or "
        "the system's list of authorities is missing.",
        "For a private authority set BACKBLAZE_CA_FILE to its certificate (PEM).",
    )


async def http(context: DoctorContext) -> Outcome:
    """Send an unsigned request. Any response of S3 passes, even a refusal."""
    try:
        response = await context.unsigned()
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        silent = isinstance(error, TimeoutError)
        return failed(
            f"No response within {REQUEST_SECONDS:g} s."
            if silent
            else f"No response: {_why(error)}",
            "The server accepts connections, but does not speak HTTP (or https on an http port).",
            "Check scheme, host and port of BACKBLAZE_ENDPOINT, and any proxy.",
        )
    seconds = response.seconds
    context.server_date = response.headers.get("Date")
    server = printable(response.headers.get("Server", ""), 60)
    found = f"HTTP {response.status}{f' from {server}' if server else ''} ({_ms(seconds)})"
    if 300 <= response.status < 400 and "Location" in response.headers:
        target = urlsplit(response.headers["Location"]).hostname or "another page"
        return failed(
            f"{found}, a redirect to {printable(target, 100)}",
            "A portal, a proxy or a web server responds instead of S3.",
            "Use the S3 endpoint (https://s3.<region>.backblazeb2.com), and a network without a "
            "login portal.",
        )
    if not _is_s3(response):
        return warned(
            f"{found}, which does not look like S3",
            "A web server or a proxy responds, perhaps instead of S3.",
            "Check BACKBLAZE_ENDPOINT. If the checks below pass, ignore this.",
        )
    if seconds > _SLOW_SECONDS:
        return warned(
            found,
            "Network or location: each request waits that long for its response.",
            "Use the region closest to your users. For large files, "
            "BACKBLAZE_TRANSFER_CONCURRENCY sends more parts at once.",
        )
    return passed(found)


async def clock(context: DoctorContext) -> Outcome:
    """Compare the clocks: S3 accepts a signature for 15 minutes."""
    now = datetime.now(UTC)
    theirs = parse_date(context.server_date)
    if theirs is None:
        return warned(
            "The server does not send the time.",
            "Its responses have no Date header; S3's always have one.",
            "Check that BACKBLAZE_ENDPOINT is an S3 server.",
        )
    context.skew = skew = theirs - now
    ahead = "behind" if skew > timedelta() else "ahead of"
    amount = _duration(abs(skew))
    cause = "S3 refuses signatures that are more than 15 minutes old or early."
    solution = "Synchronize the clock of this machine (NTP: `timedatectl set-ntp true`)."
    if abs(skew) >= _SKEW_FAILED:
        return failed(f"This machine's clock is {amount} {ahead} the server's.", cause, solution)
    if abs(skew) >= _SKEW_WARNED:
        return warned(f"This machine's clock is {amount} {ahead} the server's.", cause, solution)
    return passed("This machine's clock agrees with the server's")


# --- details ----------------------------------------------------------------------------


def _first_hop(context: DoctorContext) -> tuple[str, int, bool]:
    """Return the host and port to connect to, and whether it is the environment's proxy."""
    url = context.endpoint
    proxy = environment_proxy(url)
    if proxy is not None:
        return proxy.host, proxy.port, True
    parts = urlsplit(url)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 80)
    return parts.hostname or "", port, False


async def _tls_session(host: str, port: int, context: ssl.SSLContext) -> tuple[str, dict[str, Any]]:
    async with asyncio.timeout(_CONNECT_SECONDS):
        _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    session = writer.get_extra_info("ssl_object")
    found = str(session.version()), cast("dict[str, Any]", session.getpeercert() or {})
    await _close(writer)
    return found


async def _untrusted_certificate(host: str, port: int) -> dict[str, Any]:
    """Read a certificate without verifying it. Sends nothing over that connection."""
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=blind)
        binary = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        await _close(writer)
        # ssl parses only a trusted certificate: trust exactly this one.
        knowing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        knowing.check_hostname = False
        knowing.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _WITHOUT_TIME
        knowing.load_verify_locations(cadata=binary)
        _, certificate = await _tls_session(host, port, knowing)
    except (OSError, ValueError, TimeoutError):
        return {}
    return certificate


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()


def _described(certificate: dict[str, Any]) -> str:
    subject = _name(certificate, "subject")
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind != "email"]
    ends = _ends(certificate)
    until = f", until {ends:%Y-%m-%d}" if ends is not None else ""
    whom = printable(", ".join(names[:3]) or subject, 100)
    return f"for {whom}, by {printable(_name(certificate, 'issuer'), 100)}{until}"


def _name(certificate: dict[str, Any], role: str) -> str:
    fields = {name: value for part in certificate.get(role, ()) for name, value in part}
    found = (fields.get("organizationName"), fields.get("commonName"))
    return " ".join(each for each in found if each) or "unknown"


def _ends(certificate: dict[str, Any]) -> datetime | None:
    text = certificate.get("notAfter")
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC) if text else None


def _is_s3(response: Unsigned) -> bool:
    if is_marked({name.lower(): value for name, value in response.headers.items()}):
        return True
    document = documents.parse_error(response.body)
    if document is not None and document.code is not None:
        return True
    return b"<ListAllMyBucketsResult" in response.body


def _why(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientError):
        return f"{type(error).__name__}"
    return in_words(error)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _duration(span: timedelta) -> str:
    seconds = round(span.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    return f"{round(seconds / 60)} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
