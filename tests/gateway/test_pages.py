"""Memory in large pages: which mappings are meant, and that a process whose memory was collapsed goes on."""

from __future__ import annotations

import subprocess
import sys

from gateway import pages
from gateway.pages import LARGE

MAPS = """\
00400000-0041f000 r--p 00000000 fe:00 2172209                            /usr/bin/python3.11
00941000-00a7f000 rw-p 00540000 fe:00 2172209                            /usr/bin/python3.11
09143000-091dc000 rw-p 00000000 00:00 0                                  [heap]
7f7d054b4000-7f7d0571a000 rw-p 00000000 00:00 0
7f7d0571a000-7f7d05771000 r--p 00000000 fe:00 329635                     /usr/lib/locale/C.utf8/LC_CTYPE
7f7d05948000-7f7d05955000 rw-s 00000000 00:01 9                          /memfd:ours (deleted)
7ffc3a5d1000-7ffc3a5f2000 rw-p 00000000 00:00 0                          [stack]
"""


def test_only_the_heap_is_meant() -> None:
    assert pages._heap(MAPS) == [(0x09143000, 0x091DC000), (0x7F7D054B4000, 0x7F7D0571A000)]


def test_only_whole_pages_are_taken() -> None:
    assert pages._whole_pages(1, 3 * LARGE - 1) == (LARGE, 2 * LARGE)
    assert pages._whole_pages(LARGE, 2 * LARGE) == (LARGE, 2 * LARGE)
    start, end = pages._whole_pages(1, LARGE)
    assert start >= end


def test_a_process_keeps_all_it_had() -> None:
    program = (
        "from gateway import pages; kept = [str(n) for n in range(200_000)]; done = pages.enlarge(); "
        "assert done % pages.LARGE == 0; assert kept == [str(n) for n in range(200_000)]; print('whole')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "whole\n"
