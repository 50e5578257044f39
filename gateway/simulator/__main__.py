"""`python -m gateway.simulator --host 127.0.0.1 --port N --invoice PATH`: run the simulator until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

import uvloop

from gateway.simulator.app import App, Settings
from gateway.simulator.http import Connection
from gateway.simulator.invoice import Book
from gateway.simulator.scripts import ABORT_RULES


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gateway.simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--port", type=int, default=8090, help="0 takes a free one; the line on standard output names it"
    )
    parser.add_argument("--prefix", default="/simulator", help="path under which it answers, '' for none")
    parser.add_argument("--invoice", help="file the invoice lines are appended to; none without it")
    parser.add_argument("--fsync-ms", type=int, default=0, help="fsync the invoice this often while it grows; 0 never")
    parser.add_argument("--attempt-header", default="X-Sluice-Attempt")
    parser.add_argument("--require-key", action="store_true", help="401 without any key")
    parser.add_argument("--bills-on-abort", choices=ABORT_RULES)
    parser.add_argument("--bills-errors", action="store_true")
    parser.add_argument("--disobeys-max-tokens", action="store_true")
    return parser.parse_args(argv)


def settings(given: argparse.Namespace) -> Settings:
    defaults: dict[str, object] = {}
    if given.bills_on_abort:
        defaults["bills_on_abort"] = given.bills_on_abort
    if given.bills_errors:
        defaults["bills_errors"] = True
    if given.disobeys_max_tokens:
        defaults["obeys_max_tokens"] = False
    prefix = "/" + given.prefix.strip("/") if given.prefix.strip("/") else ""
    return Settings(
        prefix=prefix, require_key=given.require_key, attempt_header=given.attempt_header, defaults=defaults
    )


async def run(given: argparse.Namespace) -> None:
    book = Book(given.invoice, fsync_ms=given.fsync_ms)
    app = App(settings(given), book)
    connections: set[Connection] = set()
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(
        lambda: Connection(app.serve, app.answer_instantly, app.upgrade, connections),
        given.host,
        given.port,
        backlog=4096,
    )
    port = server.sockets[0].getsockname()[1]
    print(f"simulator ready at http://{given.host}:{port}{app.prefix}/", flush=True)
    try:
        await stopped.wait()
    finally:
        server.close()
        running = [connection.task for connection in connections if connection.task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        book.close()


def main() -> None:
    uvloop.run(run(arguments(sys.argv[1:])))


if __name__ == "__main__":
    main()
