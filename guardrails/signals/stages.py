"""Back to normal: counters that were slowed or stopped, and are not any more, because a period began, a cap was raised or a budget deleted.

What to look at stands in the shared table of marks, each with the moment to look: a period's end, or now, when something changed. No schema
is walked.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import transaction

from billing.domain import keys
from billing.models import BudgetTotal
from guardrails.domain.budgets import Budget as BudgetRule
from guardrails.domain.budgets import Stage
from guardrails.domain.periods import FOREVER_MS, Period
from guardrails.full_budgets import FULL_FROM
from guardrails.policy import budget_rules
from guardrails.rounds import go_round
from guardrails.signals import facts as facts_of
from guardrails.signals.models import Kind, Severity, StageMark
from guardrails.signals.telling import FULL, notify
from workspaces import tenancy
from workspaces.models import Workspace, WorkspaceState

REASON: Final = "marks of stages that may be over are looked at"
MOST_WORKSPACES: Final = 100
MOST_MARKS: Final = 5000
AGAIN: Final = timedelta(minutes=5)
"""After how long a mark whose period runs is looked at again, should nobody have said that a cap changed."""


def look_soon(workspace: Workspace) -> None:
    """After a change of its budgets: look at the workspace's marks at the next opportunity. In the transaction of the change."""
    with tenancy.entered(workspace):
        StageMark.objects.filter(workspace_id=workspace.pk).update(look_at=datetime.now(UTC))


def look(now: datetime) -> int:
    """Tell of the marks that are over. Answers how many notices that made."""
    with tenancy.every_workspace(REASON):
        due = StageMark.objects.filter(look_at__lte=now).order_by().values_list("workspace_id", flat=True).distinct()
        ids = list(due[:MOST_WORKSPACES])
    return go_round(ids, lambda workspace: look_at(workspace, now), what="a look at stages")


def look_at(workspace: Workspace, now: datetime) -> int:
    with transaction.atomic(), tenancy.entered(workspace):
        rows = StageMark.objects.select_for_update(skip_locked=True).filter(workspace_id=workspace.pk, look_at__lte=now)
        marks: dict[UUID, list[StageMark]] = {}
        for mark in rows[:MOST_MARKS]:
            marks.setdefault(mark.budget_id, []).append(mark)
        if workspace.state == WorkspaceState.DELETING:
            return 0
        rules = {UUID(rule.id): rule for rule in budget_rules(workspace)}
        return sum(_look_at(workspace, rules.get(budget_id), found, now) for budget_id, found in marks.items())


def _look_at(workspace: Workspace, rule: BudgetRule | None, marks: Sequence[StageMark], now: datetime) -> int:
    if rule is None:
        _drop(marks)  # nothing is slowed by a budget that is not there, and whoever deleted it knows
        return 0
    ended = [mark for mark in marks if _ends(rule, mark) <= now]
    running = [mark for mark in marks if _ends(rule, mark) > now]
    over, going_on = _released(workspace, rule, running, now)
    for mark in going_on:
        mark.look_at = min(now + AGAIN, _ends(rule, mark))
    StageMark.objects.bulk_update(going_on, ["look_at", "stage"])
    _drop([*ended, *over])
    made = 0
    if ended:
        made += _tell(workspace, rule, ended, "reset", now)
    if over:
        made += _tell(workspace, rule, over, "raised", now)
    return made


def _ends(rule: BudgetRule, mark: StageMark) -> datetime:
    _, start_ms, _ = keys.budget_of(mark.counter)
    return datetime.fromtimestamp(min(rule.bounds_at(start_ms).end_ms, FOREVER_MS) / 1000, UTC)


def _released(
    workspace: Workspace, rule: BudgetRule, marks: Sequence[StageMark], now: datetime
) -> tuple[list[StageMark], list[StageMark]]:
    """(those in a lower stage than they were, those still slowed or stopped)"""
    over: list[StageMark] = []
    going_on: list[StageMark] = []
    settled = _settled(workspace, marks)
    for mark in marks:
        used, at_ms = settled.get(mark.counter, 0), int(now.timestamp() * 1000)
        stage = rule.stage_at(used, at_ms)
        if stage in (Stage.KILL, Stage.THROTTLE) or (mark.stage == FULL and _is_full(rule, used, at_ms)):
            mark.stage = mark.stage if mark.stage == FULL else stage.value
            going_on.append(mark)
        else:
            over.append(mark)
    return over, going_on


def _is_full(rule: BudgetRule, used: int, at_ms: int) -> bool:
    limit = rule.limit_at(at_ms)
    return limit is not None and used * 100 >= limit * FULL_FROM


def _settled(workspace: Workspace, marks: Sequence[StageMark]) -> dict[str, int]:
    """From the books, as the mark itself: the money Redis reads as zero while it is being rebuilt."""
    rows = BudgetTotal.objects.filter(workspace_id=workspace.pk, counter__in=[mark.counter for mark in marks])
    return dict(rows.values_list("counter", "settled"))


def _tell(workspace: Workspace, rule: BudgetRule, marks: Sequence[StageMark], why: str, now: datetime) -> int:
    """One notice for all values of a budget that are free again for the same reason."""
    first, count = marks[0], len(marks)
    value = first.value if count == 1 else ""
    cap = rule.cap_at(int(now.timestamp() * 1000))
    used = None
    if count == 1 and why == "raised":
        used = _settled(workspace, marks).get(first.counter, 0)
    was = Stage.KILL if any(mark.stage in (Stage.KILL, FULL) for mark in marks) else Stage.THROTTLE
    facts: dict[str, Any] = {
        "budget": facts_of.budget(workspace, rule, value), "why": why, "was": was.value, "count": count, "used": used, "cap": cap,
        "since": min(mark.since for mark in marks).astimezone(UTC).isoformat(), "links": facts_of.links(workspace, rule, rule.scope),
    }  # fmt: skip
    whom = f'{count:,} values of "{rule.name}"' if count > 1 else f'"{rule.name}"' + (f" of {value}" if value else "")
    reason = "a new period began" if why == "reset" else "the budget leaves room again"
    made = notify(
        workspace, kind=Kind.NORMAL, severity=Severity.INFO, key=f"normal:{first.counter}:{first.since.timestamp():.3f}:{cap}",
        title=f"Back to normal: {whom}, {reason}", facts=facts, at=now, now=now, budget_id=UUID(rule.id), scope=rule.scope,
        value=value, by_mail=not (rule.period is Period.HOUR and why == "reset"),
    )  # fmt: skip
    return 0 if made is None else 1


def _drop(marks: Sequence[StageMark]) -> None:
    StageMark.objects.filter(pk__in=[mark.pk for mark in marks]).delete()
