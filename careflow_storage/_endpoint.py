"""Rules for endpoints, regions and bucket names of B2 and of other S3 servers."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, ip_address
from urllib.parse import SplitResult, urlsplit

_B2_DOMAIN = "backblazeb2.com"
_B2_REGION = re.compile(r"[a-z]{2}-[a-z]+-[0-9]{3}")
_B2_HOST = re.compile(rf"s3\.({_B2_REGION.pattern})\.backblazeb2\.com")
# Common misspellings of the domain.
_NEARLY_B2_HOST = re.compile(
    r"([a-z0-9.-]*\.)?bl?ack-?blaze[-.]?(b2|2b|2|b)?\.(com?|cm|net|org|io)|.*\.backblazeb2"
)
_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_B2_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{4,61}[A-Za-z0-9]")
_S3_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_DEFAULT_PORTS = {"http": 80, "https": 443}

B2_REGIONS = (
    *("us-west-000", "us-west-001", "us-west-002", "us-west-004", "us-east-005"),
    *("eu-central-003", "ca-east-006"),
)
"""The regions known today. A region that Backblaze adds has the same form."""


def normalize_endpoint(endpoint: str) -> str:
    """Check an endpoint and return it as ``scheme://host[:port]``.

    Adds ``https://`` if the scheme is missing, since Backblaze's console shows only the host.
    Lower-cases the host, and removes a default port and a trailing slash.

    Raises:
        ValueError: The endpoint is invalid. The message omits it, since a URL may contain a
            password.
    """
    url = _split(endpoint if "://" in endpoint else f"https://{endpoint}")
    if url.scheme not in _DEFAULT_PORTS:
        raise ValueError("must begin with https://")
    if "@" in url.netloc:
        raise ValueError("must not contain a user name or password")
    if url.path.rstrip("/") or "?" in endpoint or "#" in endpoint:
        raise ValueError("must end after the host: no path, no bucket, no query, no fragment")
    host, port = (url.hostname or "").lower(), _port(url)
    if ":" in host:
        if not _is_ip_address(host):
            raise ValueError("has no valid host")
        host = f"[{host}]"
    elif len(host) > 253 or not _HOST_NAME.fullmatch(host):
        raise ValueError("has no valid host")
    if is_b2_region(host):
        raise ValueError(f"is the name of a region; the endpoint is {b2_endpoint(host)}")
    nearly = is_b2_host(host) or _NEARLY_B2_HOST.fullmatch(host)
    if nearly and (not _B2_HOST.fullmatch(host) or port not in (None, 443)):
        raise ValueError(
            "is not an S3 endpoint of Backblaze, which is https://s3.<region>.backblazeb2.com, "
            "without the bucket; the console shows it with each bucket; the regions are "
            f"{', '.join(B2_REGIONS)}"
        )
    if port in (None, _DEFAULT_PORTS[url.scheme]):
        return f"{url.scheme}://{host}"
    return f"{url.scheme}://{host}:{port}"


def host_of(endpoint: str) -> str:
    """Return the host of a normalized endpoint, without port and brackets."""
    return urlsplit(endpoint).hostname or ""


def is_b2_host(host: str) -> bool:
    """Whether the host belongs to Backblaze."""
    return host == _B2_DOMAIN or host.endswith(f".{_B2_DOMAIN}")


def b2_region(host: str) -> str | None:
    """Return the region in the host of a B2 endpoint, or None for any other host."""
    match = _B2_HOST.fullmatch(host)
    return match[1] if match else None


def is_b2_region(region: str) -> bool:
    """Whether the name has the form of a B2 region: ``us-west-004``, not ``us-east-1``."""
    return _B2_REGION.fullmatch(region.lower()) is not None


def b2_endpoint(region: str) -> str | None:
    """Return B2's endpoint for a region, or None if the name is not that of a B2 region."""
    return f"https://s3.{region.lower()}.{_B2_DOMAIN}" if is_b2_region(region) else None


def is_loopback(host: str) -> bool:
    """Whether the host is this machine, by its name or address. Sends no DNS request."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return _is_ip_address(host) and ip_address(host).is_loopback


def bucket_name_problem(name: str, *, b2: bool) -> str | None:
    """Return why B2 (or S3) does not allow a bucket name, or None if it does."""
    if b2 and not 6 <= len(name) <= 63:
        return "must have 6 to 63 characters"
    if b2 and name.lower().startswith("b2-"):
        return "must not begin with b2-, which Backblaze reserves"
    if b2 and not _B2_BUCKET.fullmatch(name):
        return "may contain letters and digits, and between them hyphens and dots"
    if not b2 and not 3 <= len(name) <= 63:
        return "must have 3 to 63 characters"
    if not b2 and not _S3_BUCKET.fullmatch(name):
        return "may contain lower-case letters and digits, and between them hyphens and dots"
    if ".." in name:
        return "must not have two dots in a row"
    if _is_ip_address(name) and isinstance(ip_address(name), IPv4Address):
        return "must not look like an IP address"
    return None


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # the text in brackets is not an IPv6 address
        raise ValueError("has no valid host") from None


def _port(url: SplitResult) -> int | None:
    try:
        port = url.port
    except ValueError:
        raise ValueError("has no valid port") from None
    if port == 0 or url.netloc.endswith(":"):
        raise ValueError("has no valid port")
    return port


def _is_ip_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
