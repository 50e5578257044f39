"""Prompt caching: repeated prefixes of long prompts are cheaper, in steps of 128 tokens from 1,024 on, as OpenAI does it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from gateway.simulator.tokens import BYTES_PER_TOKEN

FEWEST_TOKENS = 1024
STEP_TOKENS = 128
MAX_PREFIXES = 50_000


class PrefixCache:
    """Digests of prompt prefixes seen, per model and key, oldest forgotten first."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def lookup(self, owner: str, prompt: bytes) -> int:
        """Cached tokens of this prompt; remembers its prefixes for the next."""
        step = STEP_TOKENS * BYTES_PER_TOKEN
        if len(prompt) < FEWEST_TOKENS * BYTES_PER_TOKEN:
            return 0
        digest = hashlib.blake2b(owner.encode(), digest_size=12)
        cached = 0
        for at in range(0, len(prompt) - step + 1, step):
            digest.update(prompt[at : at + step])
            prefix = digest.copy().digest()
            tokens = at // BYTES_PER_TOKEN + STEP_TOKENS
            if tokens < FEWEST_TOKENS:
                continue
            if prefix in self._seen:
                self._seen.move_to_end(prefix)
                cached = tokens
            else:
                self._seen[prefix] = None
        while len(self._seen) > MAX_PREFIXES:
            self._seen.popitem(last=False)
        return cached
