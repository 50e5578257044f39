"""What was asked, as a number: equal for equal questions of one workspace. A keyed hash, so that nobody who reads the books can test a guess.

Over the bytes that decide the answer, as the client sent them: its body without the fields that only say for whom the call is. One pass over the
body in C, no second parse; nothing is kept of it but 64 bits.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import orjson

from gateway.edge import JSON, Call

LONGEST = 1024 * 1024
"""Bytes of a body beyond which there is no fingerprint: hashing must not be felt."""
_FOR_WHOM = frozenset({
    "user", "user_id", "session_id", "metadata", "safety_identifier", "prompt_cache_key", "labels", "store", "stream", "stream_options",
})  # fmt: skip
"""Top-level fields that name callers or the form of the answer, not its content."""


def of(call: Call, key: bytes) -> str:
    """16 hexadecimal digits; empty without a key, for forms and for what is too long."""
    body, request = call.body, call.request
    if not key or len(body) > LONGEST or request.content_type != JSON:
        return ""
    named = _FOR_WHOM.intersection(call.fields)
    if named:
        fields = call.fields.copy()
        for name in named:
            del fields[name]
        body = orjson.dumps(fields)
    digest = _begun(key).copy()
    digest.update(b"%b\0%b\0%b" % (body, request.endpoint.encode(), call.model.encode()))
    return digest.hexdigest()


@lru_cache(maxsize=4096)
def _begun(key: bytes) -> blake2b:
    """The hash after its first block, which is the key's alone."""
    return blake2b(digest_size=8, key=key)
