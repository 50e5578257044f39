"""What many lines have in common, kept once a workspace and named by a number: callers and patterns. Found, or written when they are new.

Numbers are asked of the database for every batch and remembered nowhere: a number that a failover took back would make lines that nobody can read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from billing.ledger import folding
from billing.ledger.copying import array
from billing.ledger.kept import OF_CALLER

Caller = tuple[str, ...]
"""Values by `OF_CALLER`, then the tags as JSON."""
MOST_PATTERNS: Final = 50_000
"""Of one workspace. Lines with further ones carry them themselves: answers of a provider that never says the same twice."""


def callers(cursor: Any, wanted: Collection[tuple[int, Caller]]) -> dict[tuple[int, Caller], int]:
    """Numbers of callers."""
    found, missing = _known(cursor, "billing_caller", {one: _digest(one[1]) for one in wanted})
    if missing:
        columns = list(
            zip(*[(str(workspace), digest, *caller) for (workspace, caller), digest in missing], strict=True)
        )
        cursor.execute(_INSERT_CALLERS, [list(column) for column in columns])
        found |= _known(cursor, "billing_caller", dict(missing))[0]
    return found


def patterns(cursor: Any, wanted: Collection[tuple[int, folding.Pattern]]) -> dict[tuple[int, folding.Pattern], int]:
    """Numbers of patterns; without those that a workspace has no room for."""
    found, missing = _known(cursor, "billing_pattern", {one: folding.body_of(one[1])[1].hex() for one in wanted})
    if missing:
        missing = _with_room(cursor, missing)
    if missing:
        cursor.execute(
            "INSERT INTO billing_pattern (workspace_id, digest, body) SELECT w, d, decode(b, 'hex') "
            "FROM unnest(%s::bigint[], %s::uuid[], %s::text[]) AS new(w, d, b) ON CONFLICT DO NOTHING",
            [
                [workspace for (workspace, _), _ in missing],
                [digest for _, digest in missing],
                [folding.body_of(pattern)[0].hex() for (_, pattern), _ in missing],
            ],
        )
        found |= _known(cursor, "billing_pattern", dict(missing))[0]
    return found


def _known(cursor: Any, table: str, digests: dict[Any, str]) -> tuple[dict[Any, int], list[tuple[Any, str]]]:
    """(what has a number, what has none). In one order, so that two writers cannot wait for each other."""
    asked = sorted(digests.items(), key=lambda pair: (pair[0][0], pair[1]))
    cursor.execute(
        f"SELECT asked.place, known.id FROM unnest(%s::bigint[], %s::uuid[]) WITH ORDINALITY AS asked(workspace_id, digest, place) "  # noqa: S608 - a name of ours
        f"JOIN {table} AS known ON known.workspace_id = asked.workspace_id AND known.digest = asked.digest",
        [array(str(one[0]) for one, _ in asked), array(digest for _, digest in asked)],
    )
    found = {asked[place - 1][0]: number for place, number in cursor.fetchall()}
    return found, [pair for pair in asked if pair[0] not in found] if len(found) < len(asked) else []


def _with_room(cursor: Any, missing: list[tuple[Any, str]]) -> list[tuple[Any, str]]:
    cursor.execute(
        "SELECT workspace_id, count(*) FROM billing_pattern WHERE workspace_id = ANY(%s) GROUP BY 1",
        [sorted({workspace for (workspace, _), _ in missing})],
    )
    counts = Counter(dict(cursor.fetchall()))
    kept = []
    for one, digest in missing:
        counts[one[0]] += 1
        if counts[one[0]] <= MOST_PATTERNS:
            kept.append((one, digest))
    return kept


@lru_cache(maxsize=16_384)
def _digest(caller: Caller) -> str:
    return blake2b("\x1f".join(caller).encode(), digest_size=16).hexdigest()


_names: Final = ", ".join(OF_CALLER)
_INSERT_CALLERS: Final = (
    f"INSERT INTO billing_caller (workspace_id, digest, {_names}, tags) SELECT w::bigint, d::uuid, {_names}, tags::jsonb "  # noqa: S608 - names of ours
    f"FROM unnest({', '.join(['%s::text[]'] * (len(OF_CALLER) + 3))}) AS new(w, d, {_names}, tags) ON CONFLICT DO NOTHING"
)
