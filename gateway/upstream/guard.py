"""Names -> addresses that may be contacted. The rules are `workspaces.domain.addresses`; here is the asking (SECURITY.md S28).

A host is resolved once, *every* address is checked, and the connection goes to a checked address with the original name as SNI
and Host: a name that answers differently the second time is never asked a second time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from gateway.upstream.failures import AddressRefused, NotSent
from workspaces.domain.addresses import Origin, literal, may_contact

DNS_TTL_S = 30.0
MAX_DNS_ENTRIES = 4096


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
        address = literal(origin.host)
        if address is not None:
            found = [address]
        else:
            try:
                answers = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            except OSError as error:
                raise NotSent(f"the host name {origin.host} does not resolve") from error
            found = list(dict.fromkeys(ipaddress.ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers))
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
