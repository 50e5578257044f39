"""The books: the ledger, what is derived from it, and where its writer stands. Shared tables, one for all workspaces.

Every table with a `workspace_id` has row-level security forced (migrations): a connection that has not entered a workspace sees no
row of them, one that has sees only its own. Only the ledger writer (`billing.ledger.writer`) writes here, except `BudgetLine`, which
guardrails keeps in step with its budgets. Readers use `billing.ledger.queries`.
"""

from __future__ import annotations

from billing.models.attributed import Attributed
from billing.models.budgets import BudgetLine, BudgetTotal, Crossing
from billing.models.ledger import (
    Caller,
    Entries,
    Entry,
    EntryState,
    Forgotten,
    Leg,
    OpenAttempt,
    Pattern,
    UnknownUsage,
    Word,
)
from billing.models.prices import PriceKind, PriceOverride
from billing.models.rollups import (
    DayMonthPack,
    DayPack,
    DetailMonthPack,
    DetailPack,
    HourPack,
    Measures,
    Minute,
    MonthPack,
    Pack,
    RollupDay,
    RollupDetail,
    RollupHour,
    RollupMonth,
    ValuePack,
)
from billing.models.stream import DeadLetter, SequenceMark, StreamOffset

__all__ = [
    "Attributed",
    "BudgetLine",
    "BudgetTotal",
    "Caller",
    "Crossing",
    "DayMonthPack",
    "DayPack",
    "DeadLetter",
    "DetailMonthPack",
    "DetailPack",
    "Entries",
    "Entry",
    "EntryState",
    "Forgotten",
    "HourPack",
    "Leg",
    "Measures",
    "Minute",
    "MonthPack",
    "OpenAttempt",
    "Pack",
    "Pattern",
    "PriceKind",
    "PriceOverride",
    "RollupDay",
    "RollupDetail",
    "RollupHour",
    "RollupMonth",
    "SequenceMark",
    "StreamOffset",
    "UnknownUsage",
    "ValuePack",
    "Word",
]
