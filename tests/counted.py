"""How many questions to the database a page asks: every statement that is one, WITH included; entering a schema and transactions are none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_NO_QUESTION = re.compile(r"\s*(SET|BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b", re.IGNORECASE)


_TRANSACTION = re.compile(r"\s*(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b", re.IGNORECASE)


def statements(asked: Iterable[dict[str, Any]]) -> list[str]:
    """All statements of a `CaptureQueriesContext` but transactions' own: entering a schema is among them."""
    return [one["sql"] for one in asked if not _TRANSACTION.match(one["sql"])]


def reads(asked: Iterable[dict[str, Any]]) -> list[str]:
    """The statements of a `CaptureQueriesContext`, without those that ask and change nothing."""
    return [one["sql"] for one in asked if not _NO_QUESTION.match(one["sql"])]
