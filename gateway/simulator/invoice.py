"""The simulator's own books: JSON lines, appended the moment tokens are generated, whoever is still listening.

One response has one `invoice` id and one or more lines, each holding its totals so far: **the last line of an id is its state**,
whether or not it says `final` (a line that is not final was overtaken by a kill of the simulator or by a client that neither
reads nor goes). `billed` false: the provider saw the request and charges nothing for it.
Each line is one `write` to a file opened with O_APPEND, so a kill of the simulator can lose no line and tear none.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from gateway.simulator.catalogue import Model


class InvoiceLine(msgspec.Struct, frozen=True, kw_only=True):
    invoice: str
    attempt: str | None
    """What the client sent as its attempt id, null when it sent none."""
    model: str
    script: str
    input_tokens: int
    cached_tokens: int
    """A subset of input_tokens, at half the input rate."""
    output_tokens: int
    """Includes reasoning."""
    cost_nano: int
    billed: bool
    final: bool
    at: int
    """UTC milliseconds."""


_DECODER = msgspec.json.Decoder(InvoiceLine)
_ENCODER = msgspec.json.Encoder()


def read_lines(path: str | Path) -> Iterable[InvoiceLine]:
    """Every line ever written, in order. A last line without its newline is being written and is left out."""
    try:
        with Path(path).open("rb") as book:
            for line in book:
                if line.endswith(b"\n"):
                    yield _DECODER.decode(line)
    except FileNotFoundError:
        return


def read_invoice(path: str | Path) -> list[InvoiceLine]:
    """The state of every response: the last line of each invoice id, in the order of their first lines."""
    return list({line.invoice: line for line in read_lines(path)}.values())


class Totals(msgspec.Struct, kw_only=True):
    requests: int = 0
    """Requests that reached a model, billed or not."""
    billed: int = 0
    open: int = 0
    """Responses still being generated."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano: int = 0


class Book:
    """The open invoice file with running totals. `path` None keeps totals only."""

    def __init__(self, path: str | Path | None, *, fsync_ms: int = 0) -> None:
        self.totals = Totals()
        self._next = int.from_bytes(os.urandom(5)) << 24
        self._fd = -1
        self._dirty = False
        if path is None:
            return
        for line in read_invoice(path):
            self._add(line, 1)
            self.totals.requests += 1
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._drop_torn_line(path)
        if fsync_ms:
            threading.Thread(target=self._sync_forever, args=(fsync_ms / 1000,), daemon=True).start()

    def open(self, *, attempt: str | None, model: Model, script: str, input_tokens: int, cached_tokens: int) -> Bill:
        """Begin a response. Nothing is written until its first `record`."""
        self._next += 1
        self.totals.requests += 1
        return Bill(self, f"inv_{self._next:016x}", attempt, model, script, input_tokens, cached_tokens)

    def enter_instant(self, input_tokens: int, output_tokens: int, cost_nano: int) -> int:
        """Count a response that is generated and final at once; its line is written by the caller. Returns its number."""
        self._next += 1
        totals = self.totals
        totals.requests += 1
        totals.billed += 1
        totals.input_tokens += input_tokens
        totals.output_tokens += output_tokens
        totals.cost_nano += cost_nano
        return self._next

    def write(self, line: InvoiceLine, before: InvoiceLine | None) -> None:
        self.write_encoded(_ENCODER.encode(line) + b"\n")
        if before is not None:
            self._add(before, -1)
        self._add(line, 1)

    def write_encoded(self, line: bytes) -> None:
        if self._fd >= 0:
            os.write(self._fd, line)
            self._dirty = True

    def close(self) -> None:
        if self._fd >= 0:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _add(self, line: InvoiceLine, sign: int) -> None:
        totals = self.totals
        if not line.final:
            totals.open += sign
        if line.billed:
            totals.billed += sign
            totals.input_tokens += sign * line.input_tokens
            totals.output_tokens += sign * line.output_tokens
            totals.cost_nano += sign * line.cost_nano

    def _drop_torn_line(self, path: str | Path) -> None:
        """A machine that lost power may leave half a line: drop it, or the next would be glued to it."""
        with Path(path).open("rb+") as book:
            whole = book.read().rfind(b"\n") + 1
            book.truncate(whole)

    def _sync_forever(self, every_s: float) -> None:
        while self._fd >= 0:
            time.sleep(every_s)
            if self._dirty and self._fd >= 0:
                self._dirty = False
                os.fsync(self._fd)


class Bill:
    """What one response has cost so far. `record` is called before the bytes that carry the tokens are sent."""

    __slots__ = (
        "_attempt",
        "_book",
        "_last",
        "_model",
        "_script",
        "cached_tokens",
        "input_tokens",
        "invoice",
        "output_tokens",
    )

    def __init__(
        self,
        book: Book,
        invoice: str,
        attempt: str | None,
        model: Model,
        script: str,
        input_tokens: int,
        cached_tokens: int,
    ) -> None:
        self.invoice = invoice
        self.input_tokens = input_tokens
        self.cached_tokens = cached_tokens
        self.output_tokens = 0
        self._book = book
        self._attempt = attempt
        self._model = model
        self._script = script
        self._last: InvoiceLine | None = None

    @property
    def is_final(self) -> bool:
        return self._last is not None and self._last.final

    def record(self, output_tokens: int, *, final: bool = False, billed: bool = True) -> None:
        """State the output so far. Never lowers it; after a final line nothing more is written."""
        if self.is_final:
            return
        self.output_tokens = max(self.output_tokens, output_tokens)
        cost = self._model.cost_nano(
            input_tokens=self.input_tokens, cached_tokens=self.cached_tokens, output_tokens=self.output_tokens
        )
        line = InvoiceLine(
            invoice=self.invoice,
            attempt=self._attempt,
            model=self._model.name,
            script=self._script,
            input_tokens=self.input_tokens,
            cached_tokens=self.cached_tokens,
            output_tokens=self.output_tokens,
            cost_nano=cost if billed else 0,
            billed=billed,
            final=final,
            at=time.time_ns() // 1_000_000,
        )
        self._book.write(line, self._last)
        self._last = line
