"""One pipelined connection to the money Redis, for the scripts of every call: RESP2 on an asyncio protocol, parsed by hiredis.

Why not redis-py's client here: alone it costs a call four tasks, two timers and a parser in Python, a third of the gateway's own time. It keeps the
rare commands, and the cluster. Nothing is retried: whether a repeat is safe depends on what was asked, and only the asker knows.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, cast

import hiredis
import redis.asyncio as aredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from guardrails.limiter.patience import LOOKS
from guardrails.limiter.scripts import Script

Answered = Callable[[Any, Exception | None], None]
"""(reply, None), or (None, why there is none): a RedisError or OSError. Called once, from the event loop, never before `run` has returned."""

_MORE = object()


class _Ask:
    __slots__ = ("answered", "arguments", "at", "key", "script")

    def __init__(self, script: Script, key: str, arguments: Sequence[bytes], answered: Answered, at: float) -> None:
        self.script, self.key, self.arguments = script, key, arguments
        self.answered, self.at = answered, at


class Pipe:
    """Runs scripts on one server. Connects when something is asked; a lost or silent connection fails what was asked on it, and the
    next ask makes another."""

    def __init__(self, pool: aredis.ConnectionPool, *, connect_s: float, answer_s: float) -> None:
        """Where to, as whom and into which database: what redis-py read from the URL."""
        self._pool, self._connect_s, self._answer_s = pool, connect_s, answer_s
        self._link: _Link | None = None
        self._links: set[_Link] = set()
        self._waiting: list[_Ask] = []
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._greeting = _greeting(pool.connection_kwargs)

    def run(self, script: Script, key: str, arguments: Sequence[bytes], answered: Answered) -> None:
        """Runs a script by its hash; by its text where the server does not know it yet. Returns at once."""
        loop = asyncio.get_running_loop()
        ask = _Ask(script, key, arguments, answered, loop.time())
        link = self._link
        if link is not None and not link.transport.is_closing():
            link.send(ask, _command("EVALSHA", script.sha, key, arguments))
        else:
            self._waiting.append(ask)
            if self._connecting is None:
                self._connecting = asyncio.ensure_future(self._connect())
        if self._timer is None:
            self._timer = loop.call_later(self._answer_s / LOOKS, self._look)

    def doubt(self) -> None:
        """An answer is overdue: what is asked from now on travels on a new connection. The old one may still answer."""
        if self._link is not None:
            self._link.retire()
            self._link = None

    async def aclose(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        for link in list(self._links):
            link.transport.abort()
        await asyncio.sleep(0)

    async def _connect(self) -> None:
        """However it ends, who waits is told and the next ask may try again."""
        link: _Link | None = None
        why: Exception = RedisConnectionError("no connection: lost at once")
        try:
            async with asyncio.timeout(self._connect_s):
                link = await self._dial()
        except Exception as error:  # noqa: BLE001 - whatever it was, a gateway that never dials again would refuse every call for good
            why = RedisConnectionError(f"no connection: {type(error).__name__}")
        finally:
            self._connecting = None
            waiting, self._waiting = self._waiting, []
            if link is not None and not link.over:
                self._link = link
                self._links.add(link)
                for ask in waiting:
                    link.send(ask, _command("EVALSHA", ask.script.sha, ask.key, ask.arguments))
            else:
                for ask in waiting:
                    ask.answered(None, why)

    async def _dial(self) -> _Link:
        loop = asyncio.get_running_loop()
        options = self._pool.connection_kwargs
        make = partial(_Link, loop, self._greeting, self._forget)
        path = options.get("path")
        if path:
            _, link = await loop.create_unix_connection(make, path)
            return link
        host, port = str(options.get("host", "localhost")), int(options.get("port", 6379))
        if issubclass(self._pool.connection_class, aredis.SSLConnection):
            tls = cast("aredis.SSLConnection", self._pool.make_connection()).ssl_context.get()  # type: ignore[no-untyped-call]
            _, link = await loop.create_connection(make, host, port, ssl=tls, server_hostname=host)
        else:
            _, link = await loop.create_connection(make, host, port)
        return link

    def _forget(self, link: _Link) -> None:
        self._links.discard(link)
        if self._link is link:
            self._link = None

    def _look(self) -> None:
        """One timer for all answers, while any is awaited: a connection whose oldest answer is overdue is given up."""
        loop = asyncio.get_running_loop()
        overdue = loop.time() - self._answer_s
        for link in list(self._links):
            link.look(overdue)
        busy = bool(self._waiting) or any(link.awaited for link in self._links)
        self._timer = loop.call_later(self._answer_s / LOOKS, self._look) if busy else None


class _Link(asyncio.Protocol):
    """One connection: answers come in the order of the commands."""

    def __init__(self, loop: asyncio.AbstractEventLoop, greeting: list[bytes], lost: Callable[[_Link], None]) -> None:
        self._loop = loop
        self._reader = hiredis.Reader(notEnoughData=_MORE, replyError=_reply_error)
        self._greeting, self._unanswered_greetings = greeting, len(greeting)
        self._lost = lost
        self.awaited: deque[_Ask] = deque()
        self._oldest: _Ask | None = None
        self._looks = 0
        self._retired = False
        self.over = False
        """Lost: nothing will be answered here any more"""
        self._why: Exception | None = None

    def send(self, ask: _Ask, command: bytes) -> None:
        if self.over:
            self._loop.call_soon(
                self._tell, ask, None, RedisConnectionError("the connection to the money Redis was lost")
            )
            return
        self.awaited.append(ask)
        self.transport.write(command)

    def retire(self) -> None:
        """Nothing new is asked here; closes after its last answer."""
        self._retired = True
        if not self.awaited:
            self.transport.close()

    def look(self, overdue: float) -> None:
        oldest = self.awaited[0] if self.awaited else None
        self._looks = self._looks + 1 if oldest is not None and oldest is self._oldest else 0
        self._oldest = oldest
        if oldest is not None and self._looks >= LOOKS and oldest.at <= overdue:
            self._give_up(RedisTimeoutError("the money Redis did not answer"))

    def _give_up(self, why: Exception) -> None:
        self._why = self._why or why
        self.transport.abort()

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        plug = transport.get_extra_info("socket")  # only here: it is None as soon as the connection was reset
        if plug.family != socket.AF_UNIX:
            plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._greeting:
            self.transport.write(b"".join(self._greeting))

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _MORE:
                self._take(reply)
        except hiredis.ProtocolError:
            self._give_up(RedisConnectionError("the money Redis does not speak RESP"))

    def _take(self, reply: Any) -> None:
        if self._unanswered_greetings:
            self._unanswered_greetings -= 1
            if isinstance(reply, RedisError):  # a wrong password, no such database: nothing else will work either
                self._give_up(reply)
            return
        if not self.awaited:
            self._give_up(RedisConnectionError("an answer that nobody asked for"))
            return
        ask = self.awaited.popleft()
        error = reply if isinstance(reply, RedisError) else None
        if error is not None and isinstance(error, NoScriptError):
            self.send(ask, _command("EVAL", ask.script.text, ask.key, ask.arguments))
            return
        if self._retired and not self.awaited:
            self.transport.close()
        self._tell(ask, reply if error is None else None, error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        self._lost(self)
        why = self._why or RedisConnectionError("the connection to the money Redis was lost")
        while self.awaited:
            self._tell(self.awaited.popleft(), None, why)

    def _tell(self, ask: _Ask, reply: Any, error: Exception | None) -> None:
        try:
            ask.answered(reply, error)
        except Exception as failed:  # noqa: BLE001 - what one asker does with its answer must not cost the others theirs
            self._loop.call_exception_handler({"message": "an answer could not be taken", "exception": failed})


def _command(name: str, script: str, key: str, arguments: Sequence[bytes]) -> bytes:
    """EVALSHA or EVAL with one key, as RESP."""
    head = _kept_head if name == "EVALSHA" else _head  # whole scripts are sent rarely and need not be kept
    parts = [head(name, script, key, len(arguments))]
    for argument in arguments:
        parts.append(_bulk(len(argument)))
        parts.append(argument)
    parts.append(b"\r\n")
    return b"".join(parts)


def _head(name: str, script: str, key: str, arguments: int) -> bytes:
    """All of a command that is the same for every call, without its last line break: that begins the next argument."""
    words = [b"\r\n$%d\r\n%b" % (len(word), word) for word in (name.encode(), script.encode(), b"1", key.encode())]
    return b"*%d" % (len(words) + arguments) + b"".join(words)


_kept_head = lru_cache(maxsize=4_096)(_head)


@lru_cache(maxsize=8_192)
def _bulk(size: int) -> bytes:
    """What goes before an argument of so many bytes."""
    return b"\r\n$%d\r\n" % size


def _greeting(options: dict[str, Any]) -> list[bytes]:
    """AUTH and SELECT, as far as the URL asks for them; what follows need not wait for their answers."""
    words: list[list[str]] = []
    if options.get("password"):
        words.append(["AUTH", *([options["username"]] if options.get("username") else []), options["password"]])
    if options.get("db"):
        words.append(["SELECT", str(options["db"])])
    return [
        b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()) for word in command)
        for command in words
    ]


def _reply_error(text: str) -> RedisError:
    return NoScriptError(text) if text.startswith("NOSCRIPT") else ResponseError(text)
