"""The story: Harbor Desk sells a help desk with AI in it. Month one cost $42, month three $2,417. Who did it? Pure values.

Three causes wait to be found: an agent that looped through a night, a summariser on the dearest model there is, and a feature that simply
grew because customers like it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SLUG: Final = "harbor-desk"
NAME: Final = "Harbor Desk"
TIME_ZONE: Final = "Europe/Berlin"
OWNER: Final = "demo@sluice.example"
PASSWORD: Final = "let the river run"  # noqa: S105 - printed on purpose; `build` refuses to run in production
MONTH_ONE_USD: Final = 42
MONTH_TWO_USD: Final = 640
MONTH_THREE_USD: Final = 2417
WHOLE_AFTER_DAYS: Final = 10
"""From this day of a month on, the month to date has come to the story's sum; before, to its share."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A place in the product that calls a model. Tokens are medians of one call."""

    name: str
    models: tuple[tuple[str, str, float], ...]
    """(provider, model, weight)"""
    calls: tuple[int, int, int]
    """In the first, second and third month."""
    fresh: int
    cached: int
    output: int
    key: str
    agent: str = ""
    office: bool = False
    """Only while people work; otherwise day and night, less at night."""
    customers: bool = True
    people: tuple[str, ...] = ()
    """Members (by their address' first part) who cause it."""
    turns: float = 1.0
    """Calls of one session, on average; 1: no sessions."""
    repeats: float = 0.0
    """Share of its calls that are asked a second time a few seconds later, word for word: a button pressed twice, a cache that is missing."""
    endpoint: str = "/v1/chat/completions"
    streamed: bool = True
    milliseconds: int = 1400


FEATURES: Final = (
    Feature(
        "support-chat", (("openai", "gpt-4o-mini", 0.62), ("anthropic", "claude-haiku-4-5", 0.38)), (4_500, 22_000, 60_000),
        fresh=1400, cached=2600, output=320, key="Help desk", turns=5.0, milliseconds=1600,
    ),
    Feature(
        "ticket-summary", (("anthropic", "claude-opus-4-5", 1.0),), (900, 9_000, 30_000),
        fresh=3100, cached=400, output=210, key="Help desk", streamed=False, milliseconds=3900,
        endpoint="/anthropic/v1/messages",
    ),
    Feature(
        "doc-search", (("openai", "text-embedding-3-small", 1.0),), (5_000, 20_000, 48_000),
        fresh=620, cached=0, output=0, key="Help desk", repeats=0.12, streamed=False, milliseconds=180, endpoint="/v1/embeddings",
    ),
    Feature(
        "reply-draft", (("anthropic", "claude-sonnet-4-5", 1.0),), (500, 5_000, 12_000),
        fresh=1100, cached=2800, output=340, key="Help desk", office=True, people=("mia", "jonas", "priya"), milliseconds=5200,
        repeats=0.07, endpoint="/anthropic/v1/messages",
    ),
    Feature(
        "invoice-extract", (("gemini", "gemini-2.5-flash", 1.0),), (800, 4_000, 9_000),
        fresh=2700, cached=0, output=420, key="Back office", agent="invoice-reader", office=True, streamed=False, milliseconds=2300,
    ),
    Feature(
        "market-research", (("openai", "gpt-4.1", 1.0),), (100, 800, 2_000),
        fresh=4200, cached=2200, output=880, key="Research agent", agent="market-scout", customers=False, milliseconds=9800,
    ),
    Feature(
        "code-review", (("openai", "gpt-5-mini", 0.9), ("gemini", "gemini-2.5-flash", 0.1)), (300, 3_000, 7_000),
        fresh=7200, cached=2400, output=1700, key="Engineering", agent="pr-reviewer", customers=False, office=True,
        people=("tom", "aiko", "lena"), milliseconds=12_500,
    ),
)  # fmt: skip

RUNAWAY_FEATURE: Final = "market-research"
RUNAWAY_CALLS: Final = 11_600
RUNAWAY_HOURS: Final = 5.5
RUNAWAY_DAYS_AGO: Final = 2
RUNAWAY_SESSION: Final = "run-7f3a91"

BIG_CUSTOMERS: Final = (
    ("Meridian Bank", 17.0), ("Northwind Bikes", 12.5), ("Lumen Health", 10.0), ("Café Sørensen", 8.0), ("Atlas Freight", 6.5),
    ("Bright & Sons", 5.2), ("Orchid Hotels", 4.4), ("Quarry Games", 3.7), ("Tidal Energy", 3.0), ("Zimmermann GmbH", 2.6),
    ("Kaiyō Travel", 2.2), ("Pepper Street Bakery", 1.9),
)  # fmt: skip
"""(name, weight). The first one doubles in the last week: the top mover."""
TAIL_CUSTOMERS: Final = 400
TAIL_WEIGHT: Final = 23.0
_FIRST: Final = (
    "Amber", "Birch", "Cobalt", "Delta", "Ember", "Fjord", "Garnet", "Harbour", "Indigo", "Juniper", "Krill", "Linden", "Maple", "Nimbus",
    "Onyx", "Poplar", "Quartz", "Rowan", "Saffron", "Thistle",
)  # fmt: skip
_SECOND: Final = (
    "Labs", "Studio", "Logistics", "Foods", "Media", "Dental", "Legal", "Outdoor", "Software", "Works", "Pharma", "Textiles", "Motors",
    "Books", "Analytics", "Gardens", "Press", "Clinics", "Robotics", "Supply",
)  # fmt: skip


def tail_customer(number: int) -> str:
    """Of 400, all different: each first name meets each second one once."""
    return f"{_FIRST[(number * 7 + number // len(_SECOND)) % len(_FIRST)]} {_SECOND[number % len(_SECOND)]}"


PLANS: Final = ("enterprise", "pro", "starter")
DEPARTMENTS: Final = ("Support", "Engineering", "Operations")
AGENTS: Final = (("market-scout", "Operations"), ("invoice-reader", "Operations"), ("pr-reviewer", "Engineering"))
PEOPLE: Final = (
    ("mia", "Mia Lindqvist", "member", "Support"), ("jonas", "Jonas Weber", "member", "Support"), ("priya", "Priya Nair", "member", "Support"),
    ("nora", "Nora Haddad", "lead", "Support"), ("tom", "Tom Okafor", "admin", "Engineering"), ("aiko", "Aiko Tanaka", "member", "Engineering"),
    ("lena", "Lena Fischer", "member", "Engineering"), ("victor", "Victor Hale", "billing", "Operations"),
)  # fmt: skip
"""(address, name, role, department)"""
LEAD: Final = "nora"
"""Signs in with the demo's password too: what a department's lead sees, and what not, can be looked at."""
KEYS: Final = (
    ("Help desk", "production", "", "Support"), ("Back office", "production", "invoice-reader", "Operations"),
    ("Research agent", "production", "market-scout", "Operations"), ("Engineering", "staging", "pr-reviewer", "Engineering"),
)  # fmt: skip
"""(name, environment, agent, department)"""


def address_of(person: str) -> str:
    return f"{person}@harbordesk.example"
