"""The cache's serializer: JSON. Pickle in a shared Redis is code execution for whoever can write to it (SECURITY.md S80)."""

from __future__ import annotations

import json
from typing import Any


class JsonSerializer:
    """What Django's Redis cache asks for: integers stay bare so that INCR works on them."""

    def __init__(self, protocol: object = None) -> None:
        pass

    def dumps(self, obj: Any) -> int | bytes:
        if type(obj) is int:
            return obj
        return json.dumps(obj, separators=(",", ":")).encode()

    def loads(self, data: bytes) -> Any:
        try:
            return int(data)
        except ValueError:
            return json.loads(data)
