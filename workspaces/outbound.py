"""Outgoing HTTP of the control plane (key checks, webhooks): one door, guarded as the data plane is (SECURITY.md S27-S32, S36).

The host is resolved once, every address is checked, and the connection goes to a checked address under the original name (Host, SNI and
certificate). No redirects, no proxies or `.netrc` from the environment, bounded time, bounded answers.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import certifi
import httpx
from django.conf import settings

from workspaces.domain.addresses import BadBaseUrl, Origin, literal, may_contact, parse_base_url

MOST_BYTES = 256 * 1024
_resolvers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="resolve")  # getaddrinfo knows no deadline of its own


@cache
def _tls() -> ssl.SSLContext:
    """Verified TLS against the pinned authorities. Reading them takes longer than most requests: once a process."""
    return ssl.create_default_context(cafile=certifi.where())


class OutboundFailed(Exception):
    """Nothing usable came back. `str()` is for people and has no secret in it; `permanent` says that repeating is pointless."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    """At most the first 256 KiB."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""


def get(base_url: str, path: str, *, headers: Mapping[str, str], timeout_s: float) -> Answer:
    return request("GET", base_url, path, headers=headers, content=None, timeout_s=timeout_s)


def post(base_url: str, path: str, *, headers: Mapping[str, str], content: bytes, timeout_s: float) -> Answer:
    return request("POST", base_url, path, headers=headers, content=content, timeout_s=timeout_s)


def request(
    method: str, base_url: str, path: str, *, headers: Mapping[str, str], content: bytes | None, timeout_s: float
) -> Answer:
    """One request to `base_url + path`. Raises OutboundFailed; every status is an answer."""
    ends_at = time.monotonic() + timeout_s
    try:
        origin, prefix = parse_base_url(base_url, allow_private=settings.ALLOW_PRIVATE_UPSTREAMS)
    except BadBaseUrl as error:
        raise OutboundFailed(str(error), permanent=True) from None
    address = _checked_address(origin, timeout_s)
    host = f"[{address}]" if ":" in address else address
    url = f"{origin.scheme}://{host}:{origin.port}{prefix}{path}"
    sent = {"accept": "application/json", "user-agent": "sluice", **headers, "host": origin.host_header}
    line = _Line()
    extensions = {"sni_hostname": origin.host, "trace": line.trace}
    try:
        with (
            line.cut_at(ends_at),
            httpx.Client(verify=_tls(), trust_env=False, follow_redirects=False, timeout=_left(ends_at)) as client,
            client.stream(method, url, headers=sent, content=content, extensions=extensions) as response,
        ):
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status_code, _read(response, ends_at), headers)
    except httpx.TimeoutException:
        raise OutboundFailed(f"{origin.host} did not answer within {timeout_s:g} seconds.") from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        if time.monotonic() >= ends_at:
            raise OutboundFailed(f"{origin.host} did not answer within {timeout_s:g} seconds.") from None
        raise OutboundFailed(f"{origin.host} could not be reached ({type(error).__name__}).") from None


class _Line:
    """The connection of one request, so that it can be cut when the time is over: httpx bounds each read, which a peer that drips its
    answer byte by byte never exceeds."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """httpcore tells of each step; the connection is what connecting, and TLS after it, returned."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")

    def _cut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes the reader, which finds the end

    @contextmanager
    def cut_at(self, ends_at: float) -> Iterator[None]:
        timer = threading.Timer(_left(ends_at), self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _read(response: httpx.Response, ends_at: float) -> bytes:
    """The beginning of the body, within the time: a provider that drips does not hold us."""
    body = bytearray()
    try:
        for chunk in response.iter_raw():
            body += chunk
            if len(body) >= MOST_BYTES or time.monotonic() >= ends_at:
                break
    except httpx.HTTPError:
        if time.monotonic() < ends_at:
            raise
    return bytes(body[:MOST_BYTES])


def _checked_address(origin: Origin, timeout_s: float) -> str:
    """One address to connect to, after all of the host's addresses were found to be allowed."""
    given = literal(origin.host)
    if given is None:
        lookup = _resolvers.submit(socket.getaddrinfo, origin.host, origin.port, type=socket.SOCK_STREAM)
        try:
            answers = lookup.result(timeout=timeout_s)
        except (OSError, UnicodeError):
            raise OutboundFailed(f"The host name {origin.host} does not resolve.") from None
        except FutureTimeout:
            raise OutboundFailed(f"The host name {origin.host} did not resolve in time.") from None
        found = [ipaddress.ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers]
    else:
        found = [given]
    if not found or not all(may_contact(address, allow_private=origin.allow_private) for address in found):
        raise OutboundFailed(f"The host {origin.host} has an address that may not be contacted.", permanent=True)
    return str(found[0])


def _left(ends_at: float) -> float:
    return max(0.1, ends_at - time.monotonic())
