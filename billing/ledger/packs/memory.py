"""The C library's heap in a process that adds columns up: what a page frees, the next one gets again instead of the kernel.

A page reads 5 to 20 MB and adds it up in arrays of megabytes. By default each of them goes back to the kernel when it is freed, and comes back
page by page: a quarter of a page's processor time was spent on that (8,000 page faults a question).
"""

from __future__ import annotations

import ctypes
from typing import Final

KEPT_BYTES: Final = 64 << 20
"""Of freed memory a process keeps at most so much for itself."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST: Final = 32 << 20
"""What is at least so large is the kernel's affair as ever: glibc allows no more."""


def keep() -> bool:
    """Answers whether the C library understood (glibc does)."""
    setting = getattr(ctypes.CDLL(None), "mallopt", None)
    if setting is None:
        return False
    return bool(setting(_TRIM_THRESHOLD, KEPT_BYTES)) and bool(setting(_MMAP_THRESHOLD, _LARGEST))
