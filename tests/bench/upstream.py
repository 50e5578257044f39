"""A streaming provider with next to no work of its own: 200 chunks, each its own piece on the wire. `python -m tests.bench.upstream --port N`

A body with "stay-open" gets its first chunks and then silence, so that open streams can be counted.
"""

from __future__ import annotations

import argparse
import asyncio

import uvloop

CHUNKS = 200
PAUSE_S = 0.001
_EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"sim-instant",'
    b'"service_tier":"default","system_fingerprint":"fp_bench","choices":[%b]%b}\n\n'
)
_DELTA = _EVENT % (b'{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}', b"")
_STOP = _EVENT % (b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}', b"")
_USAGE = _EVENT % (b"", b',"usage":{"prompt_tokens":4,"completion_tokens":200,"total_tokens":204}')
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            writer.write(_HEAD + _framed(_DELTA))
            if b"stay-open" in body:
                await reader.read(1)  # until the gateway lets go
                return
            for _ in range(CHUNKS - 1):
                await asyncio.sleep(PAUSE_S)
                writer.write(_framed(_DELTA))
            writer.write(_framed(_STOP + _USAGE + b"data: [DONE]\n\n") + b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _main(port: int) -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="tests.bench.upstream")
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(_main(parser.parse_args().port))
