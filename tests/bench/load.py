"""Small load generators: HTTP/1.1 on plain sockets, so that they cost less than what they measure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

BODY = (
    b'{"model":"sim-instant","messages":[{"role":"system","content":"You are a helpful assistant that answers in one sentence."},'
    b'{"role":"user","content":"What is the capital of France, and why is it where it is?"}],"temperature":0.7,"max_completion_tokens":64,'
    b'"user":"user-1234"}'
)
STREAM_BODY = BODY.replace(b"64", b"512")[:-1] + b',"stream":true,"stream_options":{"include_usage":true}}'
OPEN_BODY = STREAM_BODY.replace(b"What is", b"stay-open: what is")
_SENTENCE = b"The quick brown fox jumps over the lazy dog near the bank of the river. "


def body_of(prompt_bytes: int) -> bytes:
    """A chat whose prompt is about so long; 0: the tiny one."""
    if not prompt_bytes:
        return BODY
    return BODY.replace(b"What is the capital", _SENTENCE * (prompt_bytes // len(_SENTENCE)) + b"What is the capital")


class Client:
    """One keep-alive connection."""

    def __init__(self, base: str, key: str, body: bytes = BODY, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(base)
        self._host, self._port = parts.hostname or "", parts.port or 80
        head = (
            f"POST {parts.path}/chat/completions HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
            + "\r\n"
        )
        self._request = head.encode() + body

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

    async def stream(self) -> tuple[float, int]:
        """One streamed call to its end: seconds to the first byte of the body, and events."""
        started = time.perf_counter()
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if head[9:12] != b"200":
            raise SystemExit(f"a stream was answered with {head!r} {await self._reader.read(2000)!r}")
        rest = await self._reader.readuntil(b"\n\n")
        first = time.perf_counter() - started
        events = rest.count(b"data: ")
        tail = b""
        while not tail.endswith(b"0\r\n\r\n"):
            piece = await self._reader.read(65536)
            if not piece:
                raise SystemExit("a stream broke off")
            events += piece.count(b"data: ")
            tail = (tail + piece)[-5:]
        return first, events

    async def begin(self) -> None:
        """Starts a streamed call and waits for its first bytes."""
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if head[9:12] != b"200":
            raise SystemExit(f"a stream was answered with {head[9:12].decode()}")
        await self._reader.read(1)

    def close(self) -> None:
        self._writer.close()


async def flood(
    base: str,
    key: str,
    seconds: float,
    connections: int,
    body: bytes = BODY,
    *,
    wanted: int = 200,
    headers: Mapping[str, str] | None = None,
) -> float:
    """Answers of the wanted status a second."""
    until = time.perf_counter() + seconds
    good = 0

    async def one() -> None:
        nonlocal good
        client = await Client(base, key, body, headers).open()
        while time.perf_counter() < until:
            status = await client.call()
            if status != wanted:
                raise SystemExit(f"the load was answered with {status}")
            good += 1
        client.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return good / seconds


async def paced(
    base: str, key: str, seconds: float, per_second: float, connections: int = 32
) -> tuple[int, list[float]]:
    """Calls at an even rate: how many, and the seconds each took from when it was due."""
    clients: asyncio.Queue[Client] = asyncio.Queue()
    for _ in range(connections):
        clients.put_nowait(await Client(base, key).open())
    taken: list[float] = []

    async def one(due: float) -> None:
        client = await clients.get()
        if await client.call() != 200:
            raise SystemExit("a paced call was not answered well")
        taken.append(time.perf_counter() - due)
        clients.put_nowait(client)

    started, calls = time.perf_counter(), []
    for number in range(int(seconds * per_second)):
        due = started + number / per_second
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        calls.append(asyncio.ensure_future(one(due)))
    await asyncio.gather(*calls)
    while not clients.empty():
        clients.get_nowait().close()
    return len(taken), taken


async def alone(ways: Mapping[str, tuple[str, str, Mapping[str, str]]], calls: int) -> dict[str, list[float]]:
    """Seconds of each call, one after the other, by every way (base URL, key, headers) in turns."""
    clients = {name: await Client(base, key, BODY, headers).open() for name, (base, key, headers) in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(calls + 100):
        for name, client in clients.items():
            started = time.perf_counter()
            if await client.call() != 200:
                raise SystemExit("a lone call was not answered well")
            if number >= 100:  # the first ones warm caches
                times[name].append(time.perf_counter() - started)
    for client in clients.values():
        client.close()
    return times


@dataclass(frozen=True)
class Streamed:
    first_s: list[float]
    chunks: int
    seconds: float


async def streams(base: str, key: str, seconds: float, connections: int) -> Streamed:
    """Streamed calls for a while, on so many connections."""
    until = time.perf_counter() + seconds
    started = time.perf_counter()
    firsts: list[float] = []
    chunks = 0

    async def one() -> None:
        nonlocal chunks
        client = await Client(base, key, STREAM_BODY).open()
        while time.perf_counter() < until:
            first, events = await client.stream()
            firsts.append(first)
            chunks += events
        client.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return Streamed(firsts, chunks, time.perf_counter() - started)


async def hold_open(base: str, key: str, count: int) -> list[Client]:
    """So many streams that have begun and do not end."""
    clients = [Client(base, key, OPEN_BODY) for _ in range(count)]
    for first in range(0, count, 50):
        some = clients[first : first + 50]
        await asyncio.gather(*(client.open() for client in some))
        await asyncio.gather(*(client.begin() for client in some))
    return clients
