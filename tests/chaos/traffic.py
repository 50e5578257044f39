"""The calls of a chaos run: every behaviour of the provider and of impatient clients, drawn by a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.rig.load import Call

# script -> how often, in parts. What a provider does to one call in a thousand, it does here to one in ten.
PLAIN = (
    ("ok", 400), ("echo", 60), ("slow first_ms=200", 40), ("no-usage", 20), ("null-usage", 8), ("usage-zero", 6), ("usage-negative", 4),
    ("usage-float", 4), ("usage-string", 4), ("500", 12), ("502", 6), ("503", 6), ("529", 6), ("429", 8), ("429-after", 6),
    ("429-absurd", 4), ("401", 3), ("rst-before", 8), ("rst-after", 8), ("cut", 8), ("silent", 4), ("html", 6), ("json-error-200", 6),
    ("wrong-type", 4), ("empty-200", 4), ("204", 4), ("truncated", 6), ("gzip", 4), ("gzip-bomb mb=256", 2), ("br-bomb mb=256", 2),
    ("redirect", 4),
)  # fmt: skip
STREAMS = (
    ("ok", 200), ("echo", 30), ("drip gap_ms=15 tokens=40", 60), ("drip gap_ms=40 tokens=30 bills_on_abort=full", 30),
    ("drip gap_ms=40 tokens=30 bills_on_abort=stops_after_k", 20), ("heartbeat gap_ms=300", 2), ("no-usage", 20), ("usage-every-chunk", 10),
    ("usage-twice", 8), ("null-usage", 6), ("rst-before", 6), ("rst-after k=5", 10), ("cut k=5", 10), ("sse-crlf", 6), ("sse-cr", 4),
    ("sse-nospace", 6), ("sse-multiline", 6), ("sse-comments", 6), ("sse-no-done", 8), ("sse-two-dones", 6), ("sse-after-done", 6),
    ("sse-nul", 4), ("sse-split-utf8", 6), ("sse-bytes", 2), ("sse-huge-line mb=1", 2), ("sse-error k=4", 10), ("503", 10), ("429", 6),
    ("truncated", 6), ("html", 4), ("gzip", 4),
)  # fmt: skip
MODELS = (("sim-small", 80), ("sim-large", 12), ("sim-reasoner", 8))
CUSTOMERS = 40


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    keys: tuple[str, ...]
    canary: str


def calls(rng: random.Random, *, tenants: list[Tenant], ports: list[int], count: int) -> Iterator[Call]:
    """So many calls over all gateways and tenants. A label is `<tenant>/<script>`."""
    for number in range(count):
        tenant = rng.choice(tenants)
        streamed = rng.random() < 0.45
        script = _drawn(rng, STREAMS if streamed else PLAIN)
        text = f"[[sim:{script} seed={number}]] {tenant.canary} says hello {number}"
        body: dict[str, object] = {
            "model": _drawn(rng, MODELS),
            "messages": [{"role": "user", "content": text}],
            "stream": streamed,
        }
        if rng.random() < 0.8:
            body["max_tokens"] = rng.choice((16, 60, 200))
        if streamed and rng.random() < 0.3:
            body["stream_options"] = {"include_usage": True}
        headers = (
            ("Authorization", f"Bearer {rng.choice(tenant.keys)}"),
            ("Sluice-Customer", f"customer-{rng.randrange(CUSTOMERS)}"),
            ("Sluice-Feature", rng.choice(("search", "chat", "mail"))),
        )
        leaves = rng.random()
        yield Call(
            rng.choice(ports),
            json.dumps(body).encode(),
            headers=headers,
            hang_up_after_bytes=0 if leaves < 0.02 else rng.randint(1, 2500) if leaves < 0.10 else None,
            patience_s=40,
            label=f"{tenant.name}/{script}",
        )


def _drawn(rng: random.Random, choices: tuple[tuple[str, int], ...]) -> str:
    return rng.choices([name for name, _ in choices], [weight for _, weight in choices])[0]
