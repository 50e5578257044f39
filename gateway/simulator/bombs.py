"""Compressed answers that are kilobytes on the wire and gigabytes when unpacked, made without unpacking them here."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import cache

MEGABYTE = 1 << 20
_BROTLI_HEAD = bytes.fromhex("cbffff3f002400e2b14072effff8ffff078004401c1680eefd9f01")
_BROTLI_UNIT = bytes.fromhex("fcffff034002200e0b40f7fe8fffff7f004800c46101e8deff19")
_BROTLI_TAIL = b"\x03"
_BROTLI_UNIT_MB = 16


def gzip_zeros(mb: int) -> Iterator[bytes]:
    """A gzip stream of zeros: every flushed megabyte after the first compresses to the same kilobyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    yield b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    unit = packer.compress(bytes(MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(mb):
        yield unit
    yield b"\x03\x00" + _crc_of_zeros(mb).to_bytes(4, "little") + ((mb * MEGABYTE) & 0xFFFFFFFF).to_bytes(4, "little")


def brotli_zeros(mb: int) -> Iterator[bytes]:
    """A brotli stream of zeros in steps of 16 megabytes, from recorded blocks."""
    yield _BROTLI_HEAD
    for _ in range(max(0, mb // _BROTLI_UNIT_MB - 1)):
        yield _BROTLI_UNIT
    yield _BROTLI_TAIL


def _crc_of_zeros(mb: int) -> int:
    """CRC-32 of so many megabytes of zeros. One megabyte more is an affine step on the 32 bits, so it is learnt once."""
    step, constant = _crc_step()
    crc = 0
    for _ in range(mb):
        crc = constant ^ _combined(step, crc)
    return crc


@cache
def _crc_step() -> tuple[tuple[int, ...], int]:
    zeros = bytes(MEGABYTE)
    constant = zlib.crc32(zeros)
    return tuple(zlib.crc32(zeros, 1 << bit) ^ constant for bit in range(32)), constant


def _combined(step: tuple[int, ...], crc: int) -> int:
    result = 0
    while crc:
        low = crc & -crc
        result ^= step[low.bit_length() - 1]
        crc ^= low
    return result
