"""Where an outgoing call may go: base URLs and addresses. The SSRF guard of the data plane (SECURITY.md S27-S29).

A host is resolved once, *every* address is checked, and the connection goes to a checked address with the original name as SNI
and Host: a name that answers differently the second time is never asked a second time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.upstream.failures import AddressRefused, NotSent

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

DNS_TTL_S = 30.0
MAX_DNS_ENTRIES = 4096

_NEVER = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4", "::/128", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32",
        "2002::/16", "3fff::/20", "5f00::/16", "fe80::/10", "fec0::/10", "ff00::/8",
    )
)  # fmt: skip
"""Refused even where private upstreams are allowed: metadata services, multicast, documentation, tunnels (6to4, NAT64, Teredo)."""
_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15", "::1/128", "fc00::/7")
)  # fmt: skip
_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")


class BadBaseUrl(ValueError):
    """A provider's base URL cannot be used. The message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Origin:
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
    """A credential's base URL -> its origin and path prefix (without a trailing slash). Raises BadBaseUrl.

    Public upstreams must be https on port 443; where private ones are allowed, so are http and other ports.
    """
    if not url.isascii() or not url.isprintable() or any(sign in url for sign in ' \\"<>^`{|}'):
        raise BadBaseUrl(
            "the base URL has characters that do not belong there; write it like https://api.example.com/v1"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadBaseUrl("the base URL cannot be read; write it like https://api.example.com/v1") from None
    host = (parts.hostname or "").lower()
    if parts.scheme not in ("https", "http"):
        raise BadBaseUrl("the base URL must start with https://")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise BadBaseUrl("the base URL must not carry a user name or password; put the key in the key field")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise BadBaseUrl("the base URL must not carry a query or a fragment")
    if "//" in parts.path or "/." in parts.path or "%" in parts.path or ";" in parts.path:
        raise BadBaseUrl("the path of the base URL must be plain, like /v1")
    address = _literal(host)
    if address is None and (not _HOST.fullmatch(host) or len(host) > 253 or _looks_numeric(host)):
        raise BadBaseUrl("the host of the base URL is not a plain host name")
    if not allow_private:
        if parts.scheme != "https" or port not in (None, 443):
            raise BadBaseUrl("a provider is reached over https on port 443")
        if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
            raise BadBaseUrl("this address is private; private upstreams are switched off on this installation")
    if address is not None and not may_contact(address, allow_private=allow_private):
        raise BadBaseUrl("this address is private or reserved and may not be contacted")
    origin = Origin(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), allow_private)
    return origin, parts.path.rstrip("/")


def may_contact(address: Address, *, allow_private: bool) -> bool:
    """Whether a connection may go to this very address. IPv4 inside IPv6 counts as the IPv4 it is."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return allow_private and may_contact(address.ipv4_mapped, allow_private=True)
    if any(address in network for network in _NEVER if network.version == address.version):
        return False
    if any(address in network for network in _PRIVATE if network.version == address.version):
        return allow_private
    return address.is_global


class Resolver:
    """Names -> checked addresses. Remembers an answer briefly, so that a busy origin does not ask for each connection."""

    def __init__(self) -> None:
        self._known: dict[Origin, tuple[float, list[str]]] = {}

    async def addresses(self, origin: Origin) -> list[str]:
        """The addresses of an origin, all of them allowed. Raises NotSent when there are none, AddressRefused when one is refused."""
        loop = asyncio.get_running_loop()
        known = self._known.get(origin)
        if known is not None and known[0] > loop.time():
            return known[1]
        literal = _literal(origin.host)
        if literal is not None:
            found = [literal]
        else:
            try:
                answers = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            except OSError as error:
                raise NotSent(f"the host name {origin.host} does not resolve") from error
            found = list(dict.fromkeys(ipaddress.ip_address(answer[4][0].partition("%")[0]) for answer in answers))
        if not found:
            raise NotSent(f"the host name {origin.host} has no address")
        for address in found:
            if not may_contact(address, allow_private=origin.allow_private):
                raise AddressRefused(f"the host name {origin.host} resolves to an address that may not be contacted")
        addresses = [str(address) for address in found]
        if len(self._known) >= MAX_DNS_ENTRIES:
            self._known.clear()
        self._known[origin] = (loop.time() + DNS_TTL_S, addresses)
        return addresses

    def forget(self, origin: Origin) -> None:
        """After a failed connect: ask again next time."""
        self._known.pop(origin, None)


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _looks_numeric(host: str) -> bool:
    """Decimal, octal and hexadecimal spellings of an IPv4 address, which some resolvers accept (WHATWG: last label numeric)."""
    last = host.rpartition(".")[2]
    return last.isdigit() or last.startswith("0x") or last == ""
