"""A TCP proxy that breaks connections in chosen ways, switchable while it runs. Between gateway and Redis, gateway and provider, worker
and PostgreSQL. It runs in a thread of its own, so that what it delays never waits for a test.

    with TcpProxy(redis.port) as proxy:
        proxy.fault = black_hole()
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Literal, Self

Way = Literal["up", "down", "both"]
"""up: from the client to the server; down: the answers."""


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Literal["none", "delay", "black_hole", "reset", "cut", "trickle"] = "none"
    way: Way = "both"
    delay_s: float = 0.0
    after_bytes: int = 0
    accepts: bool = True
    """Whether new connections are taken; a black hole that takes none lets connecting time out."""

    def hits(self, way: Way) -> bool:
        return self.way in ("both", way)


PASS = Fault()


def delay(seconds: float, way: Way = "both") -> Fault:
    """Every piece arrives this much later, in order."""
    return Fault("delay", way, delay_s=seconds)


def black_hole() -> Fault:
    """Nothing arrives in either direction, nothing is refused. What was sent arrives once the fault is over, as TCP would resend it."""
    return Fault("black_hole")


def half_open() -> Fault:
    """Requests arrive, answers do not (until the fault is over)."""
    return Fault("black_hole", "down")


def resets() -> Fault:
    """Every connection is reset, and every new one."""
    return Fault("reset")


def cut(after_bytes: int) -> Fault:
    """A connection ends after so many bytes of answers."""
    return Fault("cut", "down", after_bytes=after_bytes)


def trickle() -> Fault:
    """One byte a second."""
    return Fault("trickle", delay_s=1.0)


class TcpProxy:
    def __init__(self, target_port: int, target_host: str = "127.0.0.1") -> None:
        self._target = (target_host, target_port)
        self._fault = PASS
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-to-{target_port}", daemon=True)
        self._changed: asyncio.Event = asyncio.Event()
        self._links: set[_Link] = set()
        self.port = 0
        self.connections = 0
        """How many were ever taken."""

    def start(self) -> Self:
        self._thread.start()
        self.port = self._in_loop(self._listen())
        return self

    def stop(self) -> None:
        self._in_loop(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def fault(self) -> Fault:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        """Takes effect on running connections at once."""
        self._fault = fault
        self._loop.call_soon_threadsafe(self._wake)

    # inside the loop
    def _in_loop(self, work: object) -> int:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)  # type: ignore[arg-type]

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=4096)
        return int(self._server.sockets[0].getsockname()[1])

    async def _close(self) -> int:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return 0

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        if self._fault.kind == "reset":
            for link in list(self._links):
                link.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        link = _Link(writer)
        self._links.add(link)
        try:
            if self._fault.kind == "reset":
                link.reset()
                return
            await self._until_passing("up")
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
            link.upstream = upstream_writer
            await asyncio.gather(self._pump(reader, upstream_writer, "up"), self._pump(upstream_reader, writer, "down"))
        except (OSError, asyncio.CancelledError):  # cancelled: the proxy is being stopped
            pass
        finally:
            self._links.discard(link)
            link.close()

    async def _until_passing(self, way: Way) -> None:
        while self._fault.kind == "black_hole" and self._fault.hits(way):
            await self._changed.wait()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        passed = 0
        while data := await reader.read(65536):
            await self._until_passing(way)
            fault = self._fault
            if fault.hits(way) and fault.kind == "delay":
                await asyncio.sleep(fault.delay_s)
                await self._until_passing(way)
            elif fault.hits(way) and fault.kind == "trickle":
                for at in range(len(data)):
                    writer.write(data[at : at + 1])
                    await writer.drain()
                    if self._fault is not fault:
                        data = data[at + 1 :]
                        break
                    await asyncio.sleep(fault.delay_s)
                else:
                    data = b""
            elif fault.hits(way) and fault.kind == "cut" and passed + len(data) >= fault.after_bytes:
                writer.write(data[: max(0, fault.after_bytes - passed)])
                await writer.drain()
                raise ConnectionAbortedError
            passed += len(data)
            writer.write(data)
            await writer.drain()
        await self._until_passing(way)
        with contextlib.suppress(OSError):
            writer.write_eof()


class _Link:
    """The two sockets of one proxied connection."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.upstream: asyncio.StreamWriter | None = None

    def reset(self) -> None:
        for writer in (self.client, self.upstream):
            if writer is not None:
                with contextlib.suppress(OSError):
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    def close(self) -> None:
        for writer in (self.client, self.upstream):
            if writer is not None:
                writer.close()
