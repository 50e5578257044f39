"""`python -m tests.rig.skewed MODULE ARGS`: a module under a clock that a test shifts while it runs, and under watch: an event loop of uvicorn's that
stands still for long writes where every thread is into the process's log.

The shift is the eight bytes (nanoseconds) of the file that RIG_CLOCK names. Who asks `time.time` or `time.time_ns` is told the shifted time; the
gateway and its limiter ask nothing else.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import runpy
import struct
import sys
import time
from pathlib import Path

import uvicorn

SHIFT = struct.Struct("<q")
STANDS_STILL_S = 9
"""Longer than any pause of the nemesis"""


def shift(clock: Path, seconds: float) -> None:
    """Set a process's clock forward or back; 0 puts it right."""
    with clock.open("r+b") as file:
        file.write(SHIFT.pack(int(seconds * 1e9)))


def new_clock(path: Path) -> Path:
    path.write_bytes(SHIFT.pack(0))
    return path


def watch_the_loop() -> None:
    """uvicorn ticks ten times a second: each tick puts the dump off."""
    tick = uvicorn.Server.on_tick

    async def on_tick(self: uvicorn.Server, counter: int) -> bool:
        if counter % 10 == 0:
            faulthandler.dump_traceback_later(STANDS_STILL_S)
        return await tick(self, counter)

    uvicorn.Server.on_tick = on_tick  # type: ignore[method-assign]


def main() -> None:
    watch_the_loop()
    true_ns = time.time_ns
    with Path(os.environ["RIG_CLOCK"]).open("rb") as file:
        shifted = mmap.mmap(file.fileno(), SHIFT.size, access=mmap.ACCESS_READ)

    def time_ns() -> int:
        return true_ns() + int(SHIFT.unpack_from(shifted)[0])

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9
    module, sys.argv = sys.argv[1], sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
