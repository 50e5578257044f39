"""The ledger beside a benchmark: `write` books what the gateway puts into the stream, `watch` prints how long its events waited.

python -m tests.bench.books write
python -m tests.bench.books watch SECONDS
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime

import django
from django.apps import apps

if not apps.ready:
    django.setup()

from billing.domain.keys import PARTITIONS
from billing.ledger import writer
from billing.ledger.stream import money_stream
from billing.ledger.trust import lag_s
from billing.tasks import watch

SAMPLE_S = 0.05


def write() -> None:
    """The worker's task, over and over, as beat wakes it. Ends with its process."""
    writer.drain_now(money_stream())
    print("ready", flush=True)
    while True:
        watch(money_stream())


def look(seconds: float) -> None:
    """The age of the oldest event that was not booked yet, by partition, twenty times a second."""
    stream, seen = money_stream(), []
    print("ready", flush=True)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        now = datetime.now(UTC)
        behind = set(writer.survey(stream).behind)
        seen.append(
            max((lag_s(stream, partition, now) for partition in range(PARTITIONS) if partition in behind), default=0.0)
        )
        time.sleep(SAMPLE_S)
    print(json.dumps(seen))


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write()
    else:
        look(float(sys.argv[2]))
