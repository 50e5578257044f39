"""The worker's three queues, by what may stand before what, and how a process says that it still takes messages of one.

A worker that is not told otherwise takes messages of all three. `config.stack.workers` gives each a process of its own, so that a
mail waits for no ledger and no look at waste, and the ledger for no look either.
"""

from __future__ import annotations

from typing import Final

LEDGER: Final = "sluice"
"""Where tasks go that say nothing else: the ledger's writer, and the upkeep of admission."""
PROMPT: Final = "sluice-prompt"
"""Somebody waits: crossings, mails, posts, stages, runaway loops. Each kind runs once at a time and is bounded by itself."""
SLOW: Final = "sluice-slow"
"""Nobody waits: looks, digests, packing, retention. One after the other."""

DEAF_AFTER_S: Final = {LEDGER: 30.0, PROMPT: 30.0, SLOW: 390.0}
"""Seconds without a message taken, after which a worker is taken for deaf. Slow tasks may run for five minutes."""


def heartbeat_key(queue: str) -> str:
    """In the broker's Redis: when a worker last took a message of the queue, as seconds since 1970."""
    return f"sluice:worker:heartbeat:{queue}"
