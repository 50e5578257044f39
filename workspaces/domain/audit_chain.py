"""The hash chain of the audit log: each record's hash covers its fields and the hash before it, per workspace, numbered without a gap."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

GENESIS = bytes(32)


@dataclass(frozen=True, slots=True)
class Link:
    """What a record's hash covers."""

    workspace_id: int
    number: int
    at: datetime
    actor: str
    address: str
    action: str
    target: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    def hash_after(self, previous: bytes) -> bytes:
        """SHA-256 of the previous hash and the record in one canonical JSON form, which PostgreSQL's jsonb gives back unchanged in meaning."""
        at = self.at.astimezone(UTC).isoformat(timespec="microseconds")
        fields = [
            self.workspace_id,
            self.number,
            at,
            self.actor,
            self.address,
            self.action,
            self.target,
            self.before,
            self.after,
        ]
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return hashlib.sha256(previous + canonical.encode()).digest()


def plain(value: Any) -> Any:
    """A value as the chain may hold it: text, whole numbers, booleans, None, lists and dicts of them. Everything else becomes text.

    Floats too: jsonb and Python print them differently. NUL, which jsonb refuses, becomes a visible sign.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {plain(str(name)): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value).replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode()
