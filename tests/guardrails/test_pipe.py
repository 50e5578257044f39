"""The pipelined connection to the money Redis: what was asked on a connection that ends is told so, and the next ask makes another."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import hiredis
import pytest
import uvloop
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from config.stack.redis import RedisServer
from guardrails.limiter import store
from guardrails.limiter.pipe import Pipe, _command
from guardrails.limiter.scripts import Script

ECHO = Script("echo", "return {KEYS[1], ARGV[1]}", "52b4b8e6ea7cd3ee1c5a7b1b3ed0d7a0b6a3c8a1")
"""Its name is nobody's hash: the server can only know it by its text."""


def ask(pipe: Pipe, word: bytes) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def answered(reply: Any, error: Exception | None) -> None:
        assert not future.done(), "answered twice"
        if error is None:
            future.set_result(reply)
        else:
            future.set_exception(error)

    pipe.run(ECHO, "key", [word], answered)
    return future


async def test_answers_come_to_their_own_askers_also_when_the_server_does_not_know_the_script(
    money_redis_url: str,
) -> None:
    pipe = store.pipe(store.connect(money_redis_url))
    asked = [ask(pipe, b"%d" % number) for number in range(200)]
    assert await asyncio.gather(*asked) == [[b"key", b"%d" % number] for number in range(200)]
    await pipe.aclose()


async def test_a_wrong_password_fails_every_ask_and_nothing_waits(money_redis_url: str) -> None:
    scheme, _, rest = money_redis_url.partition("//")
    pipe = store.pipe(store.connect(f"{scheme}//:wrong@{rest.partition('@')[2]}"))
    answers = await asyncio.wait_for(asyncio.gather(*(ask(pipe, b"x") for _ in range(3)), return_exceptions=True), 5)
    assert all(isinstance(answer, RedisError) for answer in answers)
    await pipe.aclose()


@pytest.mark.parametrize("arguments", [[], [b""], [b"x" * 900, b"\xff\r\n$", b"85"], [b"y" * 100_000] * 2])
def test_commands_are_written_as_redis_reads_them(arguments: list[bytes]) -> None:
    """Against hiredis, whose way copies each argument twice."""
    for name, script in (("EVALSHA", "a" * 40), ("EVAL", "#!lua\nreturn 'é'")):
        words: Any = (name, script, b"1", "{ü}:out", *arguments)
        assert _command(name, script, "{ü}:out", arguments) == hiredis.pack_command(words)


async def test_a_server_that_dies_fails_what_was_asked_and_serves_again_when_it_is_back(tmp_path: Path) -> None:
    server = RedisServer(home=tmp_path)
    server.start()
    pipe = store.pipe(store.connect(server.url()))
    try:
        assert await ask(pipe, b"1") == [b"key", b"1"]
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGSTOP)
        lost = ask(pipe, b"2")
        server.kill()
        with pytest.raises(RedisError):
            await asyncio.wait_for(lost, 5)
        with pytest.raises(RedisError):
            await asyncio.wait_for(ask(pipe, b"3"), 5)
        server.start()
        assert await ask(pipe, b"4") == [b"key", b"4"]
    finally:
        await pipe.aclose()
        server.stop()


async def test_a_silent_connection_is_given_up_and_a_doubted_one_may_still_answer(tmp_path: Path) -> None:
    server = RedisServer(home=tmp_path)
    server.start()
    pipe = Pipe(store.connect(server.url()).connection_pool, connect_s=2.0, answer_s=0.3)
    try:
        assert await ask(pipe, b"1") == [b"key", b"1"]
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGSTOP)
        slow = ask(pipe, b"2")
        await asyncio.sleep(0)
        pipe.doubt()
        fresh = ask(pipe, b"3")
        os.kill(server.process.pid, signal.SIGCONT)
        assert await asyncio.gather(slow, fresh) == [[b"key", b"2"], [b"key", b"3"]]
        os.kill(server.process.pid, signal.SIGSTOP)
        with pytest.raises(RedisTimeoutError):
            await asyncio.wait_for(ask(pipe, b"4"), 5)
        os.kill(server.process.pid, signal.SIGCONT)
        assert await ask(pipe, b"5") == [b"key", b"5"]
    finally:
        await pipe.aclose()
        server.stop()


async def test_a_server_is_reached_through_its_unix_socket(tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    server = RedisServer(home=tmp_path, settings={"unixsocket": str(socket)})
    server.start()
    pipe = store.pipe(store.connect(f"unix://:{server.password}@{socket}?db=1"))
    try:
        assert await ask(pipe, b"1") == [b"key", b"1"]
    finally:
        await pipe.aclose()
        server.stop()


def test_a_server_that_resets_each_connection_at_once_is_asked_again_when_it_does_so_no_more() -> None:
    """A reset may arrive between the connecting and the moment in which we look at the connection: uvloop has no socket to show then."""
    resets = 60
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(resets):
            plug, _ = listening.accept()
            time.sleep(0.0002)
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            plug.close()
        plug, _ = listening.accept()
        with plug:
            heard = b""
            while b"again" not in heard:
                heard += plug.recv(4096)
            plug.sendall(b"+OK\r\n*2\r\n$3\r\nkey\r\n$5\r\nagain\r\n")

    async def main() -> None:
        url = f"redis://:word@127.0.0.1:{listening.getsockname()[1]}/0"
        pipe = Pipe(store.connect(url).connection_pool, connect_s=2.0, answer_s=1.0)
        for _ in range(resets):
            asked = ask(pipe, b"lost")
            for _ in range(8):
                await asyncio.sleep(0)
                time.sleep(0.0003)
            with pytest.raises(RedisError):
                await asyncio.wait_for(asked, 5)
        assert await asyncio.wait_for(ask(pipe, b"again"), 5) == [b"key", b"again"]
        await pipe.aclose()

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    with listening:
        uvloop.run(main())
        server.join(5)
