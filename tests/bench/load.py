"""A small load generator: HTTP/1.1 on plain sockets, so that it costs less than what it measures."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

BODY = (
    b'{"model":"sim-instant","messages":[{"role":"system","content":"You are a helpful assistant that answers in one sentence."},'
    b'{"role":"user","content":"What is the capital of France, and why is it where it is?"}],"temperature":0.7,"max_completion_tokens":64,'
    b'"user":"user-1234"}'
)


class Client:
    """One keep-alive connection."""

    def __init__(self, base: str, key: str) -> None:
        parts = urlsplit(base)
        self._host, self._port = parts.hostname or "", parts.port or 80
        head = (
            f"POST {parts.path}/chat/completions HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
        )
        self._request = head.encode() + BODY

    async def open(self) -> Client:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def call(self) -> int:
        """One call; its status."""
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await self._reader.readexactly(length)
        return int(head[9:12])

    def close(self) -> None:
        self._writer.close()


async def flood(base: str, key: str, seconds: float, connections: int) -> float:
    """Good answers a second."""
    until = time.perf_counter() + seconds
    good = 0

    async def one() -> None:
        nonlocal good
        client = await Client(base, key).open()
        while time.perf_counter() < until:
            status = await client.call()
            if status != 200:
                raise SystemExit(f"the load was answered with {status}")
            good += 1
        client.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return good / seconds


async def alone(straight_to: str, through: str, key: str, calls: int) -> tuple[list[float], list[float]]:
    """Seconds of each call, one after the other: to the upstream itself, and through the gateway, in turns."""
    clients = [await Client(straight_to, key).open(), await Client(through, key).open()]
    times: list[list[float]] = [[], []]
    for number in range(calls + 100):
        for client, taken in zip(clients, times, strict=True):
            started = time.perf_counter()
            if await client.call() != 200:
                raise SystemExit("a lone call was not answered well")
            if number >= 100:  # the first ones warm caches
                taken.append(time.perf_counter() - started)
    for client in clients:
        client.close()
    return times[0], times[1]
