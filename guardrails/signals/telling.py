"""From crossings to notices. The ledger writer records crossings; each is handed on here exactly once, in one transaction with its notice."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction

from billing.domain import keys
from guardrails import shown
from guardrails.domain.alerting import MOST_ALONE, MOST_VALUES_ALONE, Crossed, Many, plan
from guardrails.domain.budgets import Budget as BudgetRule
from guardrails.domain.budgets import Kind as BudgetKind
from guardrails.domain.budgets import Scope, Stage, Unit
from guardrails.domain.periods import FOREVER_MS
from guardrails.models import DEFAULT_NOTIFY, Budget
from guardrails.policy import budget_rules
from guardrails.rounds import go_round, waiting
from guardrails.signals import facts as facts_of
from guardrails.signals import outbox
from guardrails.signals.models import Kind, Notice, Severity, StageMark
from guardrails.signals.text import one_line
from workspaces import tenancy
from workspaces.models import Workspace, WorkspaceState

REASON: Final = "crossings of every workspace wait to be told"
MOST_WORKSPACES: Final = 200
MOST_AN_HOUR: Final = 40
"""Notices of a workspace told one by one within an hour; further ones are rounded up."""
STALE: Final = timedelta(hours=1)
"""A crossing of a period that ended longer ago, told late after an outage, is shown and not mailed."""
SHOWN_OF_MANY: Final = 10
FULL: Final = "full"
"""In a `StageMark`: calls are refused although the books have not reached the cap."""
_LOCK_CLASS: Final = 7_357_004
SEVERITY: Final = {Kind.STOPPED: Severity.CRITICAL, Kind.THROTTLED: Severity.WARNING, Kind.THRESHOLD: Severity.INFO}
NEAR: Final = 90
"""From this percent on a threshold is a warning."""


def notify(
    workspace: Workspace,
    *,
    kind: str,
    severity: str,
    key: str,
    title: str,
    facts: dict[str, Any],
    at: datetime,
    now: datetime,
    budget_id: UUID | None = None,
    scope: Scope | None = None,
    value: str = "",
    by_mail: bool = True,
    later: datetime | None = None,
) -> Notice | None:
    """Make a notice and its deliveries, or None when there is one with this key already. Called inside the workspace, in a transaction.

    This is the door for every detector: `key` names the thing that happened, so that it is told once whoever sees it twice.
    """
    made = Notice(
        workspace_id=workspace.pk, kind=kind, severity=severity, key=key[:300], title=one_line(title, 240), facts=facts,
        budget_id=budget_id, at=at, made_at=now,
    )  # fmt: skip
    Notice.objects.bulk_create([made], ignore_conflicts=True)
    if not Notice.objects.filter(pk=made.pk).exists():
        return None
    if by_mail:
        outbox.hand_over(workspace, made, scope, value, now, later=later)
    return made


def tell(now: datetime) -> int:
    """Hand on every crossing that waits. Answers how many notices that made."""
    ids = waiting(
        "SELECT workspace_id FROM billing_crossing WHERE told_at IS NULL "
        "UNION SELECT workspace_id FROM signals_fullcounter WHERE told_at IS NULL ORDER BY 1 LIMIT %s",
        [MOST_WORKSPACES],
        reason=REASON,
    )
    return go_round(ids, lambda workspace: tell_workspace(workspace, now), what="telling of what was crossed")


def tell_workspace(workspace: Workspace, now: datetime) -> int:
    with transaction.atomic(), tenancy.entered(workspace):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [_LOCK_CLASS, workspace.pk % 2**31])
            if not cursor.fetchone()[0]:
                return 0
            cursor.execute(
                "UPDATE billing_crossing SET told_at = %s WHERE workspace_id = %s AND told_at IS NULL "
                "RETURNING budget_id, counter, threshold, at, settled, cap",
                [now, workspace.pk],
            )
            crossed = [Crossed(*row) for row in cursor.fetchall()]
            cursor.execute(
                "UPDATE signals_fullcounter SET told_at = %s WHERE workspace_id = %s AND told_at IS NULL "
                "RETURNING budget_id, counter, at, settled, cap",
                [now, workspace.pk],
            )
            full = cursor.fetchall()
        if workspace.state == WorkspaceState.DELETING:
            return 0
        teller = _Teller(workspace, now)
        return teller.tell([*crossed, *teller.full(full)])


class _Teller:
    """What one round of telling a workspace needs to know."""

    def __init__(self, workspace: Workspace, now: datetime) -> None:
        self.workspace, self.now = workspace, now
        self.rules = {UUID(rule.id): rule for rule in budget_rules(workspace)}
        self.lists = dict(Budget.objects.values_list("id", "notify"))

    def full(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[Crossed]:
        """Counters that refuse calls before their cap is reached, as crossings of the percent at which the budget stops."""
        for budget_id, counter, at, settled, cap in rows:
            rule = self.rules.get(budget_id)
            if rule is not None and rule.hard and rule.kill_percent is not None:
                yield Crossed(budget_id, counter, rule.kill_percent, at, settled, cap, full=True)

    def tell(self, crossed: Iterable[Crossed]) -> int:
        wanted = [one for one in crossed if one.budget_id in self.rules and self._is_news(one)]
        if not wanted:
            return 0
        each = {budget_id for budget_id, rule in self.rules.items() if rule.scope.each}
        lately = Notice.objects.filter(workspace_id=self.workspace.pk, made_at__gt=self.now - timedelta(hours=1))
        lately = lately.filter(kind__in=list(SEVERITY))
        left = max(2, min(MOST_ALONE, MOST_AN_HOUR - lately.count()))
        planned = plan(wanted, each, self._told_enough(each, lately), left)
        values = facts_of.values_of(self.workspace, [one.counter for one in planned.alone if one.budget_id in each])
        self._mark(wanted, values)
        made = sum(self._alone(one, values.get(one.counter, "")) for one in planned.alone)
        made += sum(self._many(many, self.rules[many.crossed[0].budget_id]) for many in planned.of_values)
        return made + (self._many(planned.rounded_up, None) if planned.rounded_up else 0)

    def _is_news(self, one: Crossed) -> bool:
        """A percent of the budget's list, or one at which a stage begins."""
        listed = self.lists.get(one.budget_id, DEFAULT_NOTIFY)
        return one.threshold in listed or self._kind(one) is not Kind.THRESHOLD

    def _kind(self, one: Crossed) -> Kind:
        rule = self.rules[one.budget_id]
        stage = facts_of.stage(rule, one)
        return {Stage.KILL: Kind.STOPPED, Stage.THROTTLE: Kind.THROTTLED}.get(stage, Kind.THRESHOLD)

    def _told_enough(self, each: Collection[UUID], lately: Any) -> set[UUID]:
        counts: dict[UUID, int] = {}
        for budget_id in lately.filter(budget_id__in=each).values_list("budget_id", flat=True):
            counts[budget_id] = counts.get(budget_id, 0) + 1
        return {budget_id for budget_id, count in counts.items() if count >= MOST_VALUES_ALONE}

    def _alone(self, one: Crossed, value: str) -> int:
        rule, kind = self.rules[one.budget_id], self._kind(one)
        facts = facts_of.of_crossing(self.workspace, rule, one, value, self.now)
        severity = Severity.WARNING if kind is Kind.THRESHOLD and one.threshold >= NEAR else SEVERITY[kind]
        made = notify(
            self.workspace, kind=kind, severity=severity, key=f"crossing:{one.counter}:{one.threshold}:{one.cap}",
            title=title(rule, kind, one, facts), facts=facts, at=one.at, now=self.now, budget_id=one.budget_id,
            scope=rule.scope, value=value, by_mail=not self._is_stale(rule, one),
        )  # fmt: skip
        return 0 if made is None else 1

    def _is_stale(self, rule: BudgetRule, one: Crossed) -> bool:
        _, start_ms, _ = keys.budget_of(one.counter)
        end_ms = rule.bounds_at(start_ms).end_ms
        return end_ms < FOREVER_MS and end_ms / 1000 < (self.now - STALE).timestamp()

    # --- Many at once -------------------------------------------------------------------------------------------------
    def _many(self, many: Many, rule: BudgetRule | None) -> int:
        """One notice for all of them. A second one within the hour waits for the hour's end and takes in what comes until then."""
        hour = self.now.replace(minute=0, second=0, microsecond=0)
        stem = f"many:{rule.id if rule else 'workspace'}:{int(hour.timestamp())}"
        facts = self._facts_of_many(many, rule)
        kinds = {self._kind(one) for one in many.crossed}
        kind = next(kind for kind in (Kind.STOPPED, Kind.THROTTLED, Kind.THRESHOLD) if kind in kinds)
        common: dict[str, Any] = {
            "kind": kind, "severity": SEVERITY[kind], "at": many.at, "now": self.now,
            "budget_id": UUID(rule.id) if rule else None, "scope": rule.scope if rule else None,
        }  # fmt: skip
        if notify(self.workspace, key=stem, title=title_of_many(facts, rule), facts=facts, **common):
            return 1
        later = Notice.objects.select_for_update().filter(workspace_id=self.workspace.pk, key=f"{stem}:more").first()
        if later is None:
            end = hour + timedelta(hours=1)
            more = f"{stem}:more"
            return (
                1
                if notify(self.workspace, key=more, title=title_of_many(facts, rule), facts=facts, later=end, **common)
                else 0
            )
        later.facts = _merged(later.facts, facts)
        later.title = one_line(title_of_many(later.facts, rule), 240)
        later.save(update_fields=["facts", "title"])
        return 0

    def _facts_of_many(self, many: Many, rule: BudgetRule | None) -> dict[str, Any]:
        top = many.crossed[:SHOWN_OF_MANY]
        values = facts_of.values_of(self.workspace, [one.counter for one in top])
        by_threshold: dict[str, int] = {}
        for one in many.crossed:
            by_threshold[str(one.threshold)] = by_threshold.get(str(one.threshold), 0) + 1
        rows = [
            {
                "budget": facts_of.budget(self.workspace, self.rules[one.budget_id], values.get(one.counter, "")),
                "threshold": one.threshold, "used": one.settled, "cap": one.cap, "stage": self._stage_of(one),
            }
            for one in top
        ]  # fmt: skip
        found: dict[str, Any] = {"many": {"count": len(many.crossed), "by_threshold": by_threshold, "top": rows}}
        if rule is not None:
            found |= {
                "budget": facts_of.budget(self.workspace, rule),
                "then": facts_of.consequences(rule, many.crossed[0].cap),
                "links": facts_of.links(self.workspace, rule, rule.scope),
            }
        return found

    def _stage_of(self, one: Crossed) -> str:
        return facts_of.stage(self.rules[one.budget_id], one).value

    def _mark(self, crossed: Iterable[Crossed], values: dict[str, str]) -> None:
        """Remember the counters that are slowed or stopped now, so that their end is told, too."""
        marks: dict[str, StageMark] = {}
        for one in crossed:
            if self._kind(one) is Kind.THRESHOLD:
                continue
            _, start_ms, _ = keys.budget_of(one.counter)
            end_ms = self.rules[one.budget_id].bounds_at(start_ms).end_ms
            marks[one.counter] = StageMark(
                workspace_id=self.workspace.pk, budget_id=one.budget_id, counter=one.counter, value=values.get(one.counter, ""),
                stage=FULL if one.full else self._stage_of(one), since=one.at, look_at=datetime.fromtimestamp(end_ms / 1000, tz=self.now.tzinfo),
            )  # fmt: skip
        StageMark.objects.bulk_create(
            marks.values(),
            update_conflicts=True,
            unique_fields=["workspace_id", "counter"],
            update_fields=["stage", "since", "look_at"],
        )


def _merged(before: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    one, two = before["many"], more["many"]
    counts = dict(one["by_threshold"])
    for threshold, number in two["by_threshold"].items():
        counts[threshold] = counts.get(threshold, 0) + number
    top = sorted([*one["top"], *two["top"]], key=lambda row: -row["used"] / max(1, row["cap"]))[:SHOWN_OF_MANY]
    return before | {"many": {"count": one["count"] + two["count"], "by_threshold": counts, "top": top}}


# --- Titles: a subject's worth ----------------------------------------------------------------------------------------
def title(rule: BudgetRule, kind: Kind, one: Crossed, facts: dict[str, Any]) -> str:
    named = f'"{rule.name}"' + (f" ({facts['budget']['on']})" if facts["budget"]["value"] else "")
    what = "Your plan" if rule.kind is BudgetKind.PLAN_QUOTA else "Budget"
    of = f"{shown.amount(one.settled, rule.unit)} of {shown.amount(one.cap, rule.unit)}"
    if rule.unit is not Unit.USD:
        of = f"{one.settled:,} of {shown.amount(one.cap, rule.unit)}"
    if kind is Kind.STOPPED:
        return f"{what} {named} {'has too little left' if one.full else 'is used up'}, calls are refused: {of}"
    if kind is Kind.THROTTLED:
        return f"{what} {named} passed {one.threshold}%, calls are slowed down: {of}"
    return f"{what} {named} passed {one.threshold}%: {of}"


def title_of_many(facts: dict[str, Any], rule: BudgetRule | None) -> str:
    count, thresholds = facts["many"]["count"], facts["many"]["by_threshold"]
    highest = max(int(threshold) for threshold in thresholds)
    if rule is None:
        return f"{count:,} more budgets passed a threshold, the highest {highest}%"
    noun = rule.scope.by.replace("tag:", "tag ").replace("_", " ")
    return (
        f'Budget "{rule.name}": {count:,} {noun}s passed a threshold, {thresholds[str(highest)]:,} of them {highest}%'
    )
