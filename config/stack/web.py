"""One web process: uvicorn with our protocol in front. `python -m config.stack.web --fd N --drain SECONDS`, or `--listen HOST:PORT`.

Under `make up` the socket is the supervisor's and outlives the process: while a process that died is started again, connections wait
instead of being refused, and several processes share the port. An image listens by itself.
"""

from __future__ import annotations

import argparse
import socket

import uvicorn
from django.template.loader import get_template
from django.urls import get_resolver

from config.env import ROOT
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


def warm_pages() -> None:
    """Import every page's view and compile its templates before the first visitor comes, who waited half a second for that; and before
    what is in memory is settled (`gateway.asgi`). numpy stays out: it comes with the first question that needs it."""
    _ = get_resolver().url_patterns
    templates = ROOT / "templates"
    for path in sorted(templates.rglob("*.html")):
        get_template(path.relative_to(templates).as_posix())


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
    config.load()
    warm_pages()
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
