"""One web process: uvicorn with our protocol in front. `python -m config.stack.web --fd N --drain SECONDS`, or `--listen HOST:PORT`.

Under `make up` the socket is the supervisor's and outlives the process: while a process that died is started again, connections wait
instead of being refused, and several processes share the port. An image listens by itself.
"""

from __future__ import annotations

import argparse
import socket

import uvicorn

from gateway.front import FrontProtocol
from gateway.front_socket import FrontSocket
from gateway.realtime.bounds import MAX_EVENT_BYTES

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """The listening socket; inheritable, to be handed down. Raises `OSError` when the port is taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(BACKLOG)
    listener.set_inheritable(True)
    return listener


def _listen_at(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return listen(host, int(port))


def main() -> None:
    arguments = argparse.ArgumentParser(prog="config.stack.web")
    where = arguments.add_mutually_exclusive_group(required=True)
    where.add_argument("--fd", type=int)
    where.add_argument("--listen", metavar="HOST:PORT")
    arguments.add_argument("--drain", type=int, default=30)
    options = arguments.parse_args()
    listener = socket.socket(fileno=options.fd) if options.fd is not None else _listen_at(options.listen)
    config = uvicorn.Config(
        "config.asgi:application",
        loop="uvloop",
        http=FrontProtocol,
        ws=FrontSocket,
        ws_max_size=MAX_EVENT_BYTES,
        ws_per_message_deflate=False,  # sound does not get smaller, and a bomb gets larger
        access_log=False,  # request lines may carry what must not be logged; the gateway logs calls itself
        server_header=False,
        proxy_headers=False,  # whom to believe is decided by SLUICE_TRUSTED_PROXIES, in the application
        timeout_keep_alive=75,  # longer than clients keep idle connections, so that none is used while it is being closed
        timeout_graceful_shutdown=options.drain,
        backlog=BACKLOG,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
