"""How a preview and a backtest read to people: plain values for `guardrails/tryout.html`."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from billing.domain.dimensions import Dimension
from guardrails import drafts, page_parts, shown
from guardrails.domain.backtest import Outlook, Replayed, alert_from
from guardrails.domain.budgets import Budget, Strategy
from guardrails.domain.periods import Period
from guardrails.drafts import Backtest, Preview


def preview(found: Preview, rule: Budget, names: dict[str, str], *, zone: str, is_new: bool) -> dict[str, Any]:
    """When each stage begins, in the running period and in the next whole one, on the clock of `zone`."""
    at_ms, full = found.now_ms, found.full or found.running
    stages = [
        ("Alert", alert_from(rule, at_ms), found.running.alert_ms, full.alert_ms),
        ("Slow down", rule.throttle_from(at_ms), found.running.throttle_ms, full.throttle_ms),
        ("Stop", rule.limit_at(at_ms), found.running.kill_ms, full.kill_ms),
    ]
    ends_ms, by_hour = rule.bounds_at(at_ms).end_ms, rule.period in (Period.HOUR, Period.DAY)
    now = "" if rule.scope.each else _strongest(found.running, zone, by_hour=by_hour)
    later = _strongest(full, zone, by_hour=by_hour)
    return {
        "pace": shown.amount(found.pace, rule.unit),
        "has_pace": found.pace > 0,
        "period": rule.period.value,
        "is_endless": rule.period is Period.TOTAL,
        "is_new": is_new,
        "is_each": rule.scope.each,
        "noun": page_parts.noun(rule.scope.by) if rule.scope.by else "",
        "value": names.get(found.value, found.value) if rule.scope.by == Dimension.VIRTUAL_KEY else found.value,
        "count": found.value_count,
        "reaching": found.reaching_count,
        "acts": now or later,
        "acts_later": bool(later) and not now and rule.period is not Period.TOTAL,
        "next_at": drafts.moment(ends_ms) if found.full else None,
        "at_end": shown.amount(full.at_end, rule.unit),
        "stages": [
            {
                "name": name,
                "from": shown.amount(threshold, rule.unit),
                "running": _when(running, at_ms),
                "full": _when(whole, at_ms),
            }
            for name, threshold, running, whole in stages
            if threshold is not None
        ],
    }


def backtest(found: Backtest, rule: Budget, names: dict[str, str]) -> dict[str, Any]:
    """What would have been held back, when, and how much that would have saved."""
    total = found.total
    is_key = rule.scope.by == Dimension.VIRTUAL_KEY
    rows = [(names.get(one.value, one.value) if is_key else one.value, one.replayed) for one in found.values]
    rows = rows or [("", one) for one in found.periods]
    return {
        "since": drafts.moment(found.since_ms),
        "resolution": found.resolution,
        "used": shown.amount(total.used, rule.unit),
        "has_any": total.used > 0,
        "blocked": shown.amount(total.blocked, rule.unit) if total.blocked else "",
        "blocked_calls": total.blocked_calls,
        "slowed": shown.amount(total.slowed, rule.unit) if total.slowed else "",
        "is_each": rule.scope.each,
        "noun": page_parts.noun(rule.scope.by) if rule.scope.by else "",
        "only_tells": rule.strategy is Strategy.ALERT_ONLY,
        "count": found.value_count,
        "stopped": found.stopped_count,
        "period": rule.period.value,
        "rows": [
            {
                "value": value,
                "start": drafts.moment(one.start_ms) if one.start_ms else None,
                "used": shown.amount(one.used, rule.unit),
                "blocked": shown.amount(one.blocked, rule.unit) if one.blocked else "–",
                "slowed": shown.amount(one.slowed, rule.unit) if one.slowed else "",
                "act": _act(one),
                "at": drafts.moment(_at(one)) if _at(one) else None,
            }
            for value, one in rows[: drafts.VALUES]
        ],
        "more": max(0, len(rows) - drafts.VALUES),
    }


def _strongest(outlook: Outlook, zone: str, *, by_hour: bool) -> str:
    """The strongest stage that is reached and when, as finely as a pace can tell: "stops on 19 Nov", "slows down at 14:00"."""
    stages = (("stops", outlook.kill_ms), ("slows down", outlook.throttle_ms), ("alerts", outlook.alert_ms))
    verb, at_ms = next(((verb, at_ms) for verb, at_ms in stages if at_ms is not None), ("", None))
    if at_ms is None:
        return ""
    local = drafts.moment(at_ms).astimezone(ZoneInfo(zone))
    return f"{verb} at {local:%H:%M}" if by_hour else f"{verb} on {local.day} {local:%b}"


def _when(at_ms: int | None, now_ms: int) -> dict[str, Any]:
    return {"at": None if at_ms is None else drafts.moment(at_ms), "is_now": at_ms is not None and at_ms <= now_ms}


def _act(one: Replayed) -> str:
    return "Stopped" if one.kill_ms else "Slowed down" if one.throttle_ms else "Alert" if one.alert_ms else ""


def _at(one: Replayed) -> int:
    return one.kill_ms or one.throttle_ms or one.alert_ms or 0
