"""Rows to PostgreSQL by COPY into temporary tables: the fastest way in, and `INSERT ... SELECT` from there keeps the conflict rules.

A temporary table belongs to its connection and is empty at the start of every transaction (ON COMMIT DELETE ROWS).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from django.db import connection

NULL: Final = "\x02"
"""What an absent value is written as. `clean` keeps it out of texts."""
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def clean_once(text: str, most: int) -> str:
    """Text as a column takes it: bounded, without NUL (PostgreSQL has none in text) and our own mark of absence."""
    if text.isprintable():
        return text if len(text) <= most else text[:most]
    return text[:most].replace("\x00", "\ufffd").replace(NULL, "\ufffd")


clean: Final = lru_cache(maxsize=32_768)(clean_once)
"""The same for texts that come again and again, as dimensions and counters do: remembering them is three times as fast as looking at them."""


def array(values: Iterable[str]) -> str:
    """Numbers or ids as the text of an array: to have them written one by one by the driver takes ten times as long."""
    return f"{{{','.join(values)}}}"


def optional(value: object | None) -> str:
    """A number or id that may be absent."""
    return NULL if value is None else str(value)


class Staging:
    """A temporary table that batches are copied into."""

    def __init__(self, name: str, columns: Sequence[tuple[str, str]]) -> None:
        self.name = name
        self._tabs = len(columns) - 1
        self._create = f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({', '.join(f'{c} {t}' for c, t in columns)}) ON COMMIT DELETE ROWS"
        self._any = f"SELECT EXISTS (SELECT 1 FROM pg_temp.{name})"  # noqa: S608 - a literal of the caller
        self._copy = f"COPY pg_temp.{name} ({', '.join(c for c, _ in columns)}) FROM STDIN WITH (NULL E'\\x02')"

    def fill(self, cursor: Any, rows: Iterable[Sequence[str]]) -> None:
        """Replace the table's rows."""
        cursor.execute("SELECT to_regclass(%s) IS NULL", [f"pg_temp.{self.name}"])
        if cursor.fetchone()[0]:
            cursor.execute(self._create)
        else:
            cursor.execute(self._any)
            if cursor.fetchone()[0]:  # a second batch in one transaction
                cursor.execute(f"TRUNCATE pg_temp.{self.name}")
        lines = [self._line(row) for row in rows]
        with connection.wrap_database_errors, cursor.copy(self._copy) as copy:
            copy.write("".join(lines))

    def _line(self, row: Sequence[str]) -> str:
        line = "\t".join(row)
        if "\\" in line or "\n" in line or "\r" in line or line.count("\t") != self._tabs:
            line = "\t".join([value.translate(_ESCAPES) for value in row])
        return line + "\n"
