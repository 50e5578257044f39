"""Budgets: made, changed, deleted; the presets; and their calendars when the workspace moves to another time zone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from billing.domain.dimensions import Dimension
from guardrails import lines, plans
from guardrails.actions import checked
from guardrails.domain import periods
from guardrails.domain.budgets import Kind, OnTight, Strategy, Unit
from guardrails.domain.periods import Era, Period
from guardrails.limiter import control
from guardrails.limiter.connection import sync_store
from guardrails.limiter.store import StoreError
from guardrails.models import Budget
from workspaces import audit, policy_signal, tenancy
from workspaces.actions.base import changing, identity, words
from workspaces.audit import SYSTEM, Actor
from workspaces.errors import Invalid, NotAllowed, NotThere, Taken
from workspaces.models import Plan, Workspace, WorkspaceState

MOST_BUDGETS = 500


def create_budget(
    *,
    workspace: Workspace,
    by: Actor,
    cap: Any,
    period: str,
    unit: str = Unit.USD,
    scope: str = "",
    value: str | None = "",
    name: str = "",
    reset_day: Any = 1,
    kind: str = Kind.BUDGET,
    **settings: Any,
) -> Budget:
    """A cap of `cap` (dollars as text, or a whole number of tokens or calls) a `period` on a scope.

    `scope` is "" for the workspace, a dimension or "tag:<name>"; `value` one value of it, or None for each value. Further keywords: strategy,
    on_tight, alert_percent, throttle_percent, kill_percent (None switches a stage off), throttle_per_minute, notify, message,
    upgrade_url. Raises Invalid naming the field, Taken for a second budget on the same scope, period and unit.
    """
    with changing(workspace):
        if Budget.objects.count() >= MOST_BUDGETS:
            raise Invalid(f"A workspace has at most {MOST_BUDGETS} budgets. Delete some first.")
        budget = draft_budget(
            workspace=workspace, by=by, cap=cap, period=period, unit=unit, scope=scope, value=value, name=name, reset_day=reset_day,
            kind=kind, **settings,
        )  # fmt: skip
        with _may_be_there():
            budget.save(force_insert=True)
        _announce(workspace, by, "budget.create", budget, {}, _shown(budget))
    return budget


def draft_budget(
    *,
    workspace: Workspace,
    by: Actor,
    cap: Any,
    period: str,
    unit: str = Unit.USD,
    scope: str = "",
    value: str | None = "",
    name: str = "",
    reset_day: Any = 1,
    kind: str = Kind.BUDGET,
    **settings: Any,
) -> Budget:
    """What `create_budget` would make of these, checked alike and not saved."""
    counted = checked.one_of(Unit, unit, field="unit")
    calendar = checked.one_of(Period, period, field="period")
    kind = checked.one_of(Kind, kind, field="kind")
    if kind is Kind.PLAN_QUOTA:
        raise Invalid("A plan's quota comes from the plan.", field="kind")
    on, of = checked.scope(workspace, scope, value)
    day = _reset_day(calendar, reset_day)
    budget = Budget(
        by=on, value=of, period=calendar, unit=counted, kind=kind, cap=checked.amount(cap, counted), reset_day=day,
        eras=[[workspace.time_zone, day, 0]], created_by=by.name[:254],
        name=words(name, field="name", longest=120, required=False) or _title(counted, calendar, on, of),
    )  # fmt: skip
    _set(budget, settings)
    return budget


def draft_change(*, workspace: Workspace, budget_id: UUID | str, **changes: Any) -> Budget:
    """What `update_budget` would make of a budget, checked alike and not saved."""
    fixed = set(changes) - CHANGEABLE
    if fixed:
        raise Invalid(f"This cannot be changed: {', '.join(sorted(fixed))}. Make another budget.", field=min(fixed))
    with tenancy.entered(workspace):
        budget = _found(budget_id)
    if "cap" in changes:
        budget.cap = checked.amount(changes.pop("cap"), Unit(budget.unit))
    if "name" in changes:
        budget.name = words(changes.pop("name"), field="name", longest=120)
    if "reset_day" in changes:
        budget.reset_day = _reset_day(Period(budget.period), changes.pop("reset_day"))
        _move_calendar(budget, workspace.time_zone)
    _set(budget, changes)
    return budget


def update_budget(*, workspace: Workspace, by: Actor, budget_id: UUID | str, **changes: Any) -> Budget:
    """Change a budget (the keywords of `create_budget` but for scope, value, period and unit: those make another budget).

    A lower cap applies at once and rewrites nothing: what was spent above it shows as over. Another reset day applies from the next period on.
    """
    with changing(workspace):
        before = _shown(_found(budget_id))
        budget = draft_change(workspace=workspace, budget_id=budget_id, **changes)
        with _may_be_there():
            budget.save()
        after = _shown(budget)
        changed = {name for name in after if after[name] != before[name]}
        if changed:
            _announce(
                workspace, by, "budget.change", budget, {n: before[n] for n in changed}, {n: after[n] for n in changed}
            )
    return budget


def delete_budget(*, workspace: Workspace, by: Actor, budget_id: UUID | str) -> None:
    """Gone from the next call on. Open holds on it are still released; its counters leave when nothing late can reach them."""
    with changing(workspace):
        budget = _found(budget_id)
        shown, budget_key = _shown(budget), str(budget.pk)
        _announce(workspace, by, "budget.delete", budget, shown, {})
        budget.delete()
        lines.refresh(workspace)
        transaction.on_commit(lambda: _forget(workspace.pk, budget_key), robust=True)


def daily_hard_stop(*, workspace: Workspace, by: Actor, cap_usd: Any) -> Budget:
    """The workspace's Daily Hard Stop, made or set to another amount: nothing is spent beyond it in a day, no slowing down before."""
    return _preset(
        workspace,
        by,
        Kind.DAILY_HARD_STOP,
        cap_usd,
        Period.DAY,
        "Daily Hard Stop",
        alert_percent=70,
        throttle_percent=None,
    )


def monthly_control(*, workspace: Workspace, by: Actor, cap_usd: Any) -> Budget:
    """The workspace's monthly Budget Control, made or set to another amount: alert at 70%, slow down at 90%, stop at 100%."""
    return _preset(
        workspace,
        by,
        Kind.MONTHLY_CONTROL,
        cap_usd,
        Period.MONTH,
        "Monthly Budget Control",
        alert_percent=70,
        throttle_percent=90,
    )


def spend_alert(*, workspace: Workspace, by: Actor, cap_usd: Any) -> Budget:
    """The workspace's Monthly Spend Alert, made or set to another amount: it tells at 50, 75, 90 and 100% and is never in the way of a call."""
    return _preset(
        workspace,
        by,
        Kind.SPEND_ALERT,
        cap_usd,
        Period.MONTH,
        "Monthly Spend Alert",
        strategy=Strategy.ALERT_ONLY,
        throttle_percent=None,
    )


def member_caps(*, workspace: Workspace, by: Actor, cap_usd: Any) -> Budget:
    """So much a month for each member, made or set to another amount. Part of the Team plan."""
    if Plan(workspace.plan) not in plans.PLANS_WITH_MEMBER_CAPS:
        raise NotAllowed(
            "Caps per member are part of the Team plan.", hint="Change the plan in the workspace's settings."
        )
    return _preset(
        workspace,
        by,
        Kind.MEMBER_CAP,
        cap_usd,
        Period.MONTH,
        "Member cap",
        scope=Dimension.MEMBER,
        value=None,
        throttle_percent=None,
    )


def follow_time_zone(workspace: Workspace) -> int:
    """After the workspace moved to another time zone: budgets follow when their running period ends. Returns how many will."""
    if workspace.state == WorkspaceState.DELETING:
        return 0
    with tenancy.entered(
        workspace
    ):  # without the lock: this is asked after every change, and nearly always there is nothing to do
        if not any(_move_calendar(budget, workspace.time_zone) for budget in Budget.objects.all()):
            return 0
    with changing(workspace):
        moved = [budget for budget in Budget.objects.all() if _move_calendar(budget, workspace.time_zone)]
        for budget in moved:
            budget.save(update_fields=["eras", "updated_at"])
        if moved:
            policy_signal.bump(workspace)
            lines.refresh(workspace)
            audit.record(
                workspace=workspace, by=SYSTEM, action="budget.follow_time_zone", target=workspace.time_zone,
                after={"budgets": [str(budget.pk) for budget in moved]},
            )  # fmt: skip
    return len(moved)


def _preset(
    workspace: Workspace, by: Actor, kind: Kind, cap_usd: Any, period: Period, name: str, **settings: Any
) -> Budget:
    with changing(workspace):
        known = Budget.objects.filter(kind=kind).first()
        if known is not None:
            return update_budget(workspace=workspace, by=by, budget_id=known.pk, cap=cap_usd)
        return create_budget(workspace=workspace, by=by, cap=cap_usd, period=period, kind=kind, name=name, **settings)


@contextmanager
def _may_be_there() -> Iterator[None]:
    """A savepoint in which the database's promise of one budget a scope, period and unit becomes a clear answer."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        if "budget_not_twice" not in str(error):
            raise
        raise Taken(
            "There is a budget on this scope for the same period and unit already. Change that one.", field="value"
        ) from None


_READ: dict[str, Callable[[Any], Any]] = {
    "strategy": lambda value: checked.one_of(Strategy, value, field="strategy"),
    "on_tight": lambda value: checked.one_of(OnTight, value, field="on_tight"),
    "alert_percent": lambda value: checked.percent(value, field="alert_percent"),
    "throttle_percent": lambda value: checked.percent(value, field="throttle_percent"),
    "kill_percent": lambda value: checked.percent(value, field="kill_percent"),
    "throttle_per_minute": lambda value: checked.whole(value, low=0, high=1_000_000, field="throttle_per_minute"),
    "notify": checked.notify,
    "message": lambda value: words(value, field="message", longest=300, required=False),
    "upgrade_url": checked.upgrade_url,
}
CHANGEABLE = frozenset({"name", "cap", "reset_day", *_READ})


def _set(budget: Budget, settings: dict[str, Any]) -> None:
    """The settings that may be given at any time, checked together."""
    unknown = set(settings) - set(_READ)
    if unknown:
        raise Invalid(f"There is no such setting: {', '.join(sorted(unknown))}.", field=min(unknown))
    for setting, value in settings.items():
        setattr(budget, setting, _READ[setting](value))
    if budget.strategy == Strategy.THROTTLE and budget.throttle_percent is None:
        if "throttle_percent" in settings:
            raise Invalid("A budget that slows calls down needs a threshold for it.", field="throttle_percent")
        budget.throttle_percent = min(90, budget.kill_percent or 100)
    checked.thresholds(budget.alert_percent, budget.throttle_percent, budget.kill_percent)
    if budget.period == Period.TOTAL and budget.throttle_percent is not None and not budget.throttle_per_minute:
        raise Invalid(
            "A budget that never resets has no pace to spread: set calls per minute.", field="throttle_per_minute"
        )


def _reset_day(period: Period, value: Any) -> int:
    high = {Period.MONTH: 31, Period.WEEK: 7}.get(period, 1)
    return checked.whole(value, low=1, high=high, field="reset_day")


def _move_calendar(budget: Budget, zone: str) -> bool:
    eras = [Era(*era) for era in budget.eras]
    moved = periods.changed(
        Period(budget.period), eras, zone=zone, reset_day=budget.reset_day, at_ms=time.time_ns() // 1_000_000
    )
    if (eras[-1].zone, eras[-1].reset_day) == (zone, budget.reset_day):
        return False
    budget.eras = [[era.zone, era.reset_day, era.since_ms] for era in moved]
    return True


def _announce(
    workspace: Workspace, by: Actor, action: str, budget: Budget, before: dict[str, Any], after: dict[str, Any]
) -> None:
    policy_signal.bump(workspace)
    lines.refresh(workspace)
    audit.record(
        workspace=workspace, by=by, action=action, target=f"{budget.pk} {budget.name}", before=before, after=after
    )


def _forget(workspace_id: int, budget_id: str) -> None:
    with suppress(StoreError):  # then they stay until their period ends, or the next rebuild
        control.forget_budget(sync_store(), workspace_id, budget_id)


def _found(budget_id: UUID | str) -> Budget:
    budget = Budget.objects.filter(pk=identity(budget_id)).first()
    if budget is None:
        raise NotThere("There is no such budget in this workspace.")
    return budget


def _shown(budget: Budget) -> dict[str, Any]:
    names = ("name", "kind", "by", "value", "period", "unit", "cap", "eras", *sorted(CHANGEABLE - {"name", "cap"}))
    return {name: getattr(budget, name) for name in names}


def _title(unit: Unit, period: Period, by: str, value: str | None) -> str:
    whom = "Workspace" if not by else f"Each {by}" if value is None else f"{by} {value}"
    what = "dollars" if unit is Unit.USD else unit.value
    return f"{whom}, {what} {'in total' if period is Period.TOTAL else f'per {period.value}'}"[:120]
