"""Where an outgoing call may go: base URLs and IP addresses. The SSRF rules of both planes (SECURITY.md S27-S29), without any I/O.

Callers resolve a host once, check *every* address with `may_contact`, and connect to a checked address with the original name as SNI and
Host: a name that answers differently the second time is never asked a second time.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

import msgspec

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

NEVER = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4", "::/128", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32",
        "2002::/16", "3fff::/20", "5f00::/16", "fe80::/10", "fec0::/10", "ff00::/8",
    )
)  # fmt: skip
"""Refused even where private upstreams are allowed: metadata services, multicast, documentation, tunnels (6to4, NAT64, Teredo)."""
PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15", "::1/128", "fc00::/7")
)  # fmt: skip
_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
LONGEST_URL = 300


class BadBaseUrl(ValueError):
    """A base URL cannot be used. The message is a sentence that says what to write instead."""


class Origin(msgspec.Struct, frozen=True):
    """Scheme, host and port of an upstream: what connections are pooled by."""

    scheme: str
    host: str
    port: int
    allow_private: bool = False

    @property
    def tls(self) -> bool:
        return self.scheme == "https"

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def parse_base_url(url: str, *, allow_private: bool) -> tuple[Origin, str]:
    """A base URL -> its origin and path prefix (without a trailing slash). Raises BadBaseUrl.

    Public upstreams must be https on port 443; where private ones are allowed, so are http and other ports.
    """
    _check_text(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadBaseUrl("The base URL cannot be read. Write it like https://api.example.com/v1.") from None
    if parts.scheme not in ("https", "http"):
        raise BadBaseUrl("The base URL must start with https://.")
    if "@" in parts.netloc:
        raise BadBaseUrl("The base URL must not carry a user name or password. Put the key in the key field.")
    if "//" in parts.path or "/." in parts.path or "%" in parts.path or ";" in parts.path:
        raise BadBaseUrl("The path of the base URL must be plain, like /v1.")
    if port == 0:
        raise BadBaseUrl("The port of the base URL cannot be 0.")
    if not allow_private and (parts.scheme != "https" or port not in (None, 443)):
        raise BadBaseUrl("A provider is reached over https on port 443.")
    host = (parts.hostname or "").lower()
    _check_host(host, allow_private=allow_private)
    origin = Origin(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), allow_private)
    return origin, parts.path.rstrip("/")


def _check_text(url: str) -> None:
    if len(url) > LONGEST_URL:
        raise BadBaseUrl(f"The base URL is longer than {LONGEST_URL} characters.")
    if not url.isascii() or not url.isprintable() or any(sign in url for sign in ' \\"<>^`{|}'):
        raise BadBaseUrl(
            "The base URL has characters that do not belong there. Write it like https://api.example.com/v1."
        )
    if "?" in url or "#" in url:
        raise BadBaseUrl("The base URL must not carry a query or a fragment.")


def _check_host(host: str, *, allow_private: bool) -> None:
    address = literal(host)
    if address is not None:
        if not may_contact(address, allow_private=allow_private):
            raise BadBaseUrl("This address is private or reserved and may not be contacted.")
        return
    if not _HOST.fullmatch(host) or len(host) > 253 or _looks_numeric(host):
        raise BadBaseUrl("The host of the base URL is not a plain host name.")
    if not allow_private and ("." not in host or host.endswith((".localhost", ".local", ".internal"))):
        raise BadBaseUrl("This address is private. Private upstreams are switched off on this installation.")


def may_contact(address: Address, *, allow_private: bool) -> bool:
    """Whether a connection may go to this very address. IPv4 inside IPv6 counts as the IPv4 it is."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return allow_private and may_contact(address.ipv4_mapped, allow_private=True)
    if any(address in network for network in NEVER if network.version == address.version):
        return False
    if any(address in network for network in PRIVATE if network.version == address.version):
        return allow_private
    return address.is_global


def literal(host: str) -> Address | None:
    """The address that a host literally is, or None when it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _looks_numeric(host: str) -> bool:
    """Decimal, octal and hexadecimal spellings of an IPv4 address, which some resolvers accept (WHATWG: last label numeric)."""
    last = host.rpartition(".")[2]
    return last.isdigit() or last.startswith("0x") or last == ""
