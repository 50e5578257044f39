"""The web process of `config.stack.web`, with a counter: Python instructions and calls of C functions, which no noisy neighbour changes.

Counting begins with the first request for `/counts`, which answers with both sums so far.
"""

from __future__ import annotations

import json
import sys
from types import FrameType
from typing import Any

from config import asgi
from config.stack import web

_sums = {"instructions": 0, "c_calls": 0}


def _in_frame(frame: FrameType, event: str, argument: object) -> Any:
    if event == "opcode":
        _sums["instructions"] += 1
    return _in_frame


def _enter(frame: FrameType, event: str, argument: object) -> Any:
    frame.f_trace_opcodes, frame.f_trace_lines = True, False
    return _in_frame


def _profile(frame: FrameType, event: str, argument: object) -> None:
    if event == "c_call":
        _sums["c_calls"] += 1


class Counted(asgi.Application):
    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/counts":
            await super().__call__(scope, receive, send)
            return
        body = json.dumps(_sums).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
        sys.settrace(_enter)
        sys.setprofile(_profile)


if __name__ == "__main__":
    asgi.application = Counted()
    web.main()
