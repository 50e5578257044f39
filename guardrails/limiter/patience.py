"""How long the money Redis is waited for, so that this process's own stalls are not taken for its silence.

A process that is short of CPU finds its timers due before it has looked at its sockets. So a wait is made of several short ones: between them the
event loop reads what has arrived, however late it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

LOOKS = 5
"""Rounds of the event loop that an answer has at least, however late its timers run"""


T = TypeVar("T")


async def within(seconds: float, asking: Awaitable[T]) -> T:
    """The answer. Raises TimeoutError after `seconds` in which this loop was free to read it, and what the asking raises."""
    task = asyncio.ensure_future(asking)
    try:
        for _ in range(LOOKS):
            done, _ = await asyncio.wait((task,), timeout=seconds / LOOKS)
            if done:
                return task.result()
        raise TimeoutError(f"no answer within {seconds:g} s")
    finally:
        task.cancel()
