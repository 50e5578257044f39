"""The server's side of WebSockets: uvicorn's protocol, that logs no addresses, takes no compression and lets sessions end when the process stops."""

from __future__ import annotations

import logging
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from gateway.realtime.bounds import RESTART

_QUIET = logging.getLogger("sluice.websocket")
_QUIET.setLevel(logging.WARNING)
"""uvicorn tells each handshake's path and query, in which a key may stand by mistake (SECURITY.md S13)."""


class FrontSocket(WebSocketsSansIOProtocol):
    """For `uvicorn.Config(ws=FrontSocket)`."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.logger = _QUIET

    def shutdown(self) -> None:
        """The process stops: an open session is told so by a message of ours and closes by itself, within the server's grace."""
        if self.handshake_complete and not self.close_sent:
            self.stop_keepalive()
            message: Any = {"type": RESTART}  # beside those of ASGI
            self.queue.put_nowait(message)
        else:
            super().shutdown()
