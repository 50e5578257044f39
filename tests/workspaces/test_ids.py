"""Identities that are written without their object are what the objects would be."""

from __future__ import annotations

import os
import time
from uuid import RFC_4122, UUID

from workspaces.ids import made_at_ms, uuid7_text


def test_the_text_of_an_identity_is_a_version_7_of_now_and_never_the_same() -> None:
    before = time.time_ns() // 1_000_000
    texts = [uuid7_text() for _ in range(1_000)]  # more than are drawn at once
    after = time.time_ns() // 1_000_000
    assert len({text[14:] for text in texts}) == len(texts)
    for text in texts:
        identity = UUID(text)
        assert str(identity) == text
        assert identity.variant == RFC_4122
        assert before <= made_at_ms(identity) <= after


def test_every_bit_of_chance_is_left_to_chance() -> None:
    values = [UUID(uuid7_text()).int & (1 << 80) - 1 for _ in range(600)]
    changed = 0
    for value in values:
        changed |= value ^ values[0]
    assert changed == (1 << 76) - 1 & ~(0b11 << 62)


def test_a_forked_process_draws_for_itself() -> None:
    uuid7_text()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, uuid7_text().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 36)[14:] != uuid7_text().encode()[14:]
    os.close(reading)
    os.close(writing)
