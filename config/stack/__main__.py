"""`python -m config.stack up` (what `make up` and, with `--demo`, `make demo` run) and `python -m config.stack heartbeat`.

The latter says whether the worker is listening to all its queues: exit 0 or 1.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from config.env import Environment
from config.queues import DEAF_AFTER_S
from config.stack.process import die_with_parent
from config.stack.redis import heartbeat_ages_s
from config.stack.supervisor import up


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m config.stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start everything and stay until stopped")
    start.add_argument(
        "--end-with-parent", action="store_true", help="stop when the process that started this one ends"
    )
    start.add_argument("--demo", action="store_true", help="with the demo workspace, made when it is not there yet")
    commands.add_parser("heartbeat", help="exit 0 when workers took messages of every queue lately")
    options = parser.parse_args()
    if options.command == "heartbeat":
        ages = heartbeat_ages_s(Environment.read().redis("SLUICE_BROKER_URL", 1))
        return 0 if ages is not None and all(age_s < DEAF_AFTER_S[queue] for queue, age_s in ages.items()) else 1
    if not options.end_with_parent:
        return up(demo=options.demo)
    parent = os.getppid()
    die_with_parent(signal.SIGTERM)
    return up(parent=parent, demo=options.demo) if os.getppid() == parent else 1


if __name__ == "__main__":
    sys.exit(main())
