"""The process's memory in large pages: a call touches its objects all over the heap and its code all over the interpreter, and on a virtual
machine each page of 4 KB that the processor has forgotten costs a walk through two tables. Pages of 2 MB are remembered all at once.

Measured on the machine of docs/performance.md: a tenth less processor time a call (ADR 0028). Nothing but speed depends on it, so whatever the
kernel does not allow is left as it is: another system than Linux, a kernel before 6.1, no memory in whole pieces of 2 MB.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

LARGE: Final = 2 << 20
_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25
"""Of <linux/mman.h>: may be backed by large pages; shall be, now."""
_MAPS = Path("/proc/self/maps")


def enlarge() -> int:
    """Backs the heap as it is now by large pages, and what it grows by inside the same mappings. Bytes that are in large pages now; 0 where the
    system does not know them. Takes some 20 ms for each 100 MB; for the start of a process, never while calls run."""
    if sys.platform != "linux":
        return 0
    try:
        heap = [_whole_pages(start, end) for start, end in _heap(_MAPS.read_text())]
    except OSError:
        return 0
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    enlarged = 0
    for start, end in heap:
        if start < end and madvise(start, end - start, _MADV_HUGEPAGE) == 0:
            enlarged += sum(
                LARGE for address in range(start, end, LARGE) if madvise(address, LARGE, _MADV_COLLAPSE) == 0
            )
    log.info("%d MB of the heap are in large pages", enlarged >> 20)
    return enlarged


def _heap(maps: str) -> list[tuple[int, int]]:
    """The anonymous memory that a process reads and writes, without stacks: (start, end) of each mapping of /proc/self/maps."""
    found = []
    for line in maps.splitlines():
        place, rights, _, _, _, *name = line.split(maxsplit=5)
        if rights.startswith("rw-p") and (not name or name[0] == "[heap]"):
            start, _, end = place.partition("-")
            found.append((int(start, 16), int(end, 16)))
    return found


def _whole_pages(start: int, end: int) -> tuple[int, int]:
    """The part of a mapping that whole large pages can back; empty where `start` is not below `end`."""
    return -(-start // LARGE) * LARGE, end // LARGE * LARGE
