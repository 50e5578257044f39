"""The one door of outgoing calls: checked addresses, verified TLS, pooled connections, time limits. No redirects, no proxies, no cookies.

Why a client of our own: the gateway must know whether a byte was sent (that decides between void and assumed), must connect to the very address
it checked, must stop an answer at any byte, and must do it in tens of microseconds. docs/adr/ has the measurements.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import TypeVar

import certifi
from websockets.uri import WebSocketURI

from gateway.upstream.connection import IDLE_LIMIT, TOTAL_LIMIT, Connection, Head, Headers, Sink
from gateway.upstream.failures import Broken, NotSent, Silent, UpstreamFailure
from gateway.upstream.guard import Resolver
from gateway.upstream.socket import Socket
from workspaces.domain.addresses import Origin

P = TypeVar("P", bound=asyncio.Protocol)
MAX_IDLE_PER_ORIGIN = 256
IDLE_PLAIN_S = 4.0
"""Shorter than the keep-alive of common servers (uvicorn's is 5 s), so that a pooled connection is not used while it is being closed."""
IDLE_TLS_S = 30.0
SWEEP_EVERY_S = 2.0
ONE_WRITE_BYTES = 16 * 1024
"""Copying a body of this length costs less than the second write."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits of one exchange, in seconds."""

    connect_s: float = 5.0
    first_byte_s: float = 600.0
    """Until the answer's headers, and from there until its body begins."""
    idle_s: float = 60.0
    """Between two bytes of the body."""
    total_s: float = 900.0


class Answer:
    """A provider's answer: its head, then its body as it comes. Leave it through `async with` or `abort`: what was not read is aborted."""

    __slots__ = (
        "_connection",
        "_door",
        "_ends_at",
        "_idle_s",
        "_loop",
        "_origin",
        "_then_idle_s",
        "get",
        "headers",
        "status",
    )

    def __init__(
        self, door: Door, origin: Origin, connection: Connection, head: Head, limits: Limits, ends_at: float
    ) -> None:
        self.status = head.status
        self.headers: Headers = head.headers
        self.get = head.get
        """A header by its lower-case name."""
        self._door = door
        self._origin = origin
        self._connection: Connection | None = connection
        self._idle_s = limits.first_byte_s
        """Until the body's first byte; a model may think for minutes after it has sent its headers."""
        self._then_idle_s = limits.idle_s
        self._ends_at = ends_at
        self._loop = door.loop

    async def chunk(self) -> bytes:
        """The next bytes of the body as they arrived; b"" at its end. Raises Silent or Broken."""
        connection = self._connection
        if connection is None:
            return b""
        now = self._loop.time()
        idle_until = now + self._idle_s
        if self._ends_at <= idle_until:
            if self._ends_at <= now:
                raise Silent(TOTAL_LIMIT)
            chunk = await connection.chunk(self._ends_at, TOTAL_LIMIT)
        else:
            chunk = await connection.chunk(idle_until, IDLE_LIMIT)
        self._idle_s = self._then_idle_s
        if not chunk:
            self._connection = None
            self._door.give_back(self._origin, connection)
        return chunk

    async def pour(self, sink: Sink, framed: Sink | None = None) -> bool:
        """What is left of the body, to `sink` (and `framed`, see Connection) in the turn of the loop that brings it: no task wakes for a piece.

        True when it has ended; false when `sink` could take no more for now: pour again when it can. Raises Silent, Broken, and what the sinks raise.
        """
        connection = self._connection
        if connection is None:
            return True
        if not await connection.pour(sink, self._idle_s, self._ends_at, framed):
            return False
        if self._connection is not None:
            self._connection = None
            self._door.give_back(self._origin, connection)
        return True

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises Broken when it is longer than `limit` bytes."""
        connection = self._connection
        if connection is not None and connection.complete:  # a short answer comes with its head
            chunk = connection.arrived()
            if len(chunk) > limit:
                raise Broken("the answer is longer than we accept")
            self._connection = None
            self._door.give_back(self._origin, connection)
            return chunk
        chunk = await self.chunk()
        if not chunk:
            return b""
        chunks, size = [chunk], len(chunk)
        while chunk := await self.chunk():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise Broken("the answer is longer than we accept")
        return b"".join(chunks)

    def end_within(self, seconds: float) -> None:
        """Shortens the total limit, for a drain after the client left. Takes effect at once, also on a wait under way."""
        self._ends_at = min(self._ends_at, self._loop.time() + seconds)
        if self._connection is not None:
            self._connection.hurry(self._ends_at, TOTAL_LIMIT)

    def abort(self) -> None:
        """Ends the exchange where it is; the connection is not used again."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    async def __aenter__(self) -> Answer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


class Door:
    """Keeps the idle connections of one event loop. Make one per process, inside its loop; `close` it at the end."""

    def __init__(self, ca_file: str | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self._tls = _tls_context(ca_file or certifi.where())
        self._resolver = Resolver()
        self._idle: dict[Origin, deque[Connection]] = {}
        self._sweeper = self.loop.call_later(SWEEP_EVERY_S, self._sweep)

    async def exchange(self, origin: Origin, head: bytes, body: bytes, limits: Limits) -> Answer:
        """Sends one request and returns its answer as soon as the headers are there.

        Raises NotSent while it is certain that nothing left; Silent and Broken afterwards. A cancelled exchange is aborted.
        """
        connection = self._take(origin) or await self._connect(origin, limits.connect_s, lambda: Connection(self.loop))
        sent_at = self.loop.time()
        try:
            if len(body) <= ONE_WRITE_BYTES:
                connection.send(head + body)
            else:
                connection.send(head, body)
            within_s = limits.first_byte_s if limits.first_byte_s < limits.total_s else limits.total_s
            while (got := connection.head) is None:
                await connection.progress(sent_at + within_s, "the provider did not answer in time")
        except BaseException:  # also cancellation: whatever ends the wait, this connection is spent
            connection.abort()
            raise
        return Answer(self, origin, connection, got, limits, sent_at + limits.total_s)

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """A finished exchange returns its connection; it is kept when it may serve again."""
        if not connection.reusable:
            connection.abort()
            return
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle[origin] = deque()
        elif len(idle) >= MAX_IDLE_PER_ORIGIN:
            connection.abort()
            return
        connection.idle_since = self.loop.time()
        idle.append(connection)

    async def close(self) -> None:
        self._sweeper.cancel()
        for idle in self._idle.values():
            for connection in idle:
                connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)

    def _take(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        if not idle:
            return None
        now = self.loop.time()
        usual_s = IDLE_TLS_S if origin.tls else IDLE_PLAIN_S
        while idle:
            connection = idle.pop()
            limit_s = usual_s if connection.keep_idle_s is None else _idle_limit(origin, connection)
            if now - connection.idle_since < limit_s and connection.fresh:
                return connection
            connection.abort()
        return None

    def _sweep(self) -> None:
        now = self.loop.time()
        for origin in list(self._idle):
            idle = self._idle[origin]
            while idle and (idle[0].lost or now - idle[0].idle_since >= _idle_limit(origin, idle[0])):
                idle.popleft().abort()
            if not idle:
                del self._idle[origin]
        self._sweeper = self.loop.call_later(SWEEP_EVERY_S, self._sweep)

    async def open_socket(
        self, origin: Origin, target: str, headers: Sequence[tuple[str, str]], within_s: float, most_bytes: int
    ) -> Socket:
        """A WebSocket to a checked address. `target` is path and query; `headers` those beside the handshake's own, checked by the caller.

        Raises NotSent while nothing left, Declined when the provider said no, Silent and Broken otherwise.
        """
        path, _, query = target.partition("?")
        uri = WebSocketURI(origin.tls, origin.host, origin.port, path, query, None, None)
        socket = await self._connect(origin, within_s, lambda: Socket(self.loop, uri, most_bytes))
        try:
            async with asyncio.timeout(within_s):
                await socket.shake(headers)
        except TimeoutError:
            socket.abort()
            raise Silent("the provider did not open the WebSocket in time") from None
        except BaseException:  # also cancellation
            socket.abort()
            raise
        return socket

    async def _connect(self, origin: Origin, within_s: float, make: Callable[[], P]) -> P:
        """A new connection to a checked address of the origin; its addresses share the time."""
        failure: BaseException | None = None
        try:
            async with asyncio.timeout(within_s):
                addresses = await self._resolver.addresses(origin)
                ends_at = self.loop.time() + within_s
                for place, address in enumerate(addresses):
                    share_s = max(0.5, (ends_at - self.loop.time()) / (len(addresses) - place))
                    try:
                        async with asyncio.timeout(share_s):
                            return await self._connect_to(address, origin, make)
                    except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
                        failure = error
        except TimeoutError as error:
            failure = error
        except UpstreamFailure:
            self._resolver.forget(origin)
            raise
        self._resolver.forget(origin)
        if isinstance(failure, ssl.SSLCertVerificationError):
            raise NotSent(f"the certificate of {origin.host} is not valid: {failure.verify_message}") from failure
        if isinstance(failure, ssl.SSLError):
            raise NotSent(f"no secure connection to {origin.host}") from failure
        if isinstance(failure, TimeoutError):
            raise NotSent(f"{origin.host} could not be reached within {within_s:g} s") from failure
        raise NotSent(f"{origin.host} could not be reached") from failure

    async def _connect_to(self, address: str, origin: Origin, make: Callable[[], P]) -> P:
        _, connection = await self.loop.create_connection(
            make,
            address,
            origin.port,
            ssl=self._tls if origin.tls else None,
            server_hostname=origin.host if origin.tls else None,
        )
        return connection


def _idle_limit(origin: Origin, connection: Connection) -> float:
    usual = IDLE_TLS_S if origin.tls else IDLE_PLAIN_S
    return usual if connection.keep_idle_s is None else min(usual, connection.keep_idle_s - 1.0)


@lru_cache(maxsize=4)
def _tls_context(ca_file: str) -> ssl.SSLContext:
    """Verified TLS 1.2 or newer against one pinned CA file, read once a process; SSL_CERT_FILE and its like are not read (SECURITY.md S32, S35)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
