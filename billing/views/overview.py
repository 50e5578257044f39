"""The overview: how much, who and what for, where it is heading, which lever; before the first call, the four steps to it.

The page asks for its pulse (`overview_live`: figures and newest calls) every second and a half while somebody looks, every second before the
first call. The version in the address makes that cheap: when nothing was booked and no step was done since, the answer is 204 after one read by key.
The rest of the page (`overview_spend`) is asked for every 20 seconds in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from billing import outlook
from billing.domain.dimensions import Dimension
from billing.domain.forecast import WINDOW_DAYS, Forecast, Maturity, forecast
from billing.ledger import queries
from billing.ledger.queries import CannotAnswer, Days, Totals
from billing.views import calls as call_views
from billing.views import panels, question, reads, spend
from billing.views.naming import Names
from billing.views.panels import Place
from billing.views.reads import Mark
from workspaces.roles import Action, may
from workspaces.views import reads as workspace_reads
from workspaces.views import test_call
from workspaces.views.frame import framed, membership_of, page, url, workspace_of, workspace_page
from workspaces.views.virtual_keys import snippet_tabs

LIVE_CALLS = 8
CHART_DAYS = 30
BREAKDOWN_ROWS = 7
MOVERS = 6
MOVER_DAYS = 7
MOVING = (Dimension.CUSTOMER, Dimension.FEATURE, Dimension.AGENT, Dimension.MODEL)
NAMED_FIRST = (Dimension.AGENT, Dimension.CUSTOMER, Dimension.FEATURE, Dimension.MODEL)
"""Of what moves together, the first of these stands for the rest: who did it before what with."""
STACKS = (
    Dimension.FEATURE, Dimension.MODEL, Dimension.CUSTOMER, Dimension.AGENT, Dimension.MEMBER, Dimension.DEPARTMENT, Dimension.PROVIDER,
    Dimension.VIRTUAL_KEY, Dimension.ENVIRONMENT,
)  # fmt: skip
_STARTING = "s"
_RUNNING = "r"


@dataclass(frozen=True, slots=True)
class _Look:
    """What a page or fragment is made from: the stage, the books' mark, and before the first call the steps done."""

    mark: Mark
    done: int = 0

    @property
    def version(self) -> str:
        return f"{_RUNNING}{self.mark.seq}" if self.mark.has_calls else f"{_STARTING}{self.done}"


@workspace_page(Action.SEE_SPEND, narrows=True)
def overview(request: HttpRequest) -> HttpResponse:
    slug = workspace_of(request).slug
    if request.session.get("last_workspace") != slug:  # a session that is written to is stored again
        request.session["last_workspace"] = slug
    look = _look(request)
    context = _context(request, look)
    if look.mark.has_calls:
        context |= _spend(request, look, context["pulse"]["by_day"])
    return page(request, "billing/overview.html", "overview", context)


@workspace_page(Action.SEE_SPEND, narrows=True)
def overview_live(request: HttpRequest) -> HttpResponse:
    seen = request.GET.get("seen", "")
    look = _look(request)
    if seen == look.version:
        return HttpResponse(status=204)
    context = _context(request, look) | {"is_fragment": True}
    if seen.startswith(_STARTING) and look.mark.has_calls:  # the first call: the whole page comes into being
        context |= _spend(request, look, context["pulse"]["by_day"]) | {"celebrates": True}
    return render(request, "billing/overview_pulse.html", framed(request, "overview") | context)


@workspace_page(Action.SEE_SPEND, narrows=True)
def overview_spend(request: HttpRequest) -> HttpResponse:
    look = _look(request)
    if request.GET.get("seen", "") == look.version:
        return HttpResponse(status=204)
    context = _spend(request, look, None)
    return render(request, "billing/overview_spend.html", framed(request, "overview") | context)


def _look(request: HttpRequest) -> _Look:
    mark = reads.mark(workspace_of(request).pk)
    return _Look(mark) if mark.has_calls else _Look(mark, _done_before_calls(request))


def _done_before_calls(request: HttpRequest) -> int:
    """Which steps on the way to the first call are done: 1 a provider key, 2 a virtual key, 3 both."""
    has_credential = bool(workspace_reads.usable_credentials())
    has_key = workspace_reads.has_working_key(workspace_of(request))
    return has_credential + 2 * has_key


def _context(request: HttpRequest, look: _Look) -> dict[str, Any]:
    version = look.version
    pulse: dict[str, Any] = {"version": version, "url": f"{url(request, 'overview_live')}?seen={version}"}
    context: dict[str, Any] = {
        "pulse": pulse,
        "calls_url": url(request, "calls"),
        "explorer_url": url(request, "explorer"),
        "keys_new_url": url(request, "key_new"),
        **test_call.offered(request, surely=look.mark.has_calls),
    }
    pulse["can_call"] = context["can_call"]
    if not look.mark.has_calls:
        pulse |= _onboarding(request, look.done)
        context["snippets"] = snippet_tabs("start")
    else:
        pulse |= _figures(request)
    return context


# --- Before the first call --------------------------------------------------------------------------------------------
def _onboarding(request: HttpRequest, done: int) -> dict[str, Any]:
    role = membership_of(request).role
    has_credential, has_key = bool(done & 1), bool(done & 2)
    steps = [
        _step("provider", "Add a provider key", "Pasted once, checked, sealed. No key at hand? Take the simulator, it needs none.",
              has_credential, may(role, Action.MANAGE_CREDENTIALS), url(request, "credential_new"), "Add a provider key"),
        _step("key", "Make a virtual key", "What your application holds instead of the provider’s key.",
              has_key, may(role, Action.MANAGE_KEYS), url(request, "key_new"), "Make a virtual key"),
        _step("call", "Make the first call", "From here with one click, or from your code with one changed line.",
              False, may(role, Action.SEND_TEST_CALL), url(request, "connect"), "Show the snippets"),
        _step("see", "See it here", "Within two seconds of the call: its tokens, its price, its key and its model.",
              False, False, "", ""),
    ]  # fmt: skip
    following = next(step for step in steps if not step["is_done"])
    following["is_next"] = True
    return {"steps": steps, "steps_done": sum(step["is_done"] for step in steps)}


def _step(name: str, title: str, text: str, is_done: bool, allowed: bool, where: str, button: str) -> dict[str, Any]:
    return {
        "name": name, "title": title, "text": text, "is_done": is_done, "is_next": False,
        "allowed": allowed, "url": where, "button": button,
    }  # fmt: skip


# --- Figures and newest calls: with every look ------------------------------------------------------------------------
def _figures(request: HttpRequest) -> dict[str, Any]:
    workspace, now = workspace_of(request), timezone.now()
    month = queries.month_to_date(workspace, now)
    today = month.last
    last_month = question.preset_days("last_month", today)
    read = Days(min(last_month.first, today - timedelta(days=WINDOW_DAYS)), today)
    same_days = question.period_before(month, "month")
    by_day, so_far, (yesterday, same_day) = queries.days_and_hours_so_far(
        workspace, read, now, [today - timedelta(days=1), same_days.last]
    )
    this_month, by_then = _added(by_day, month), _added(by_day, same_days)
    if same_days.last.day == today.day:  # a shorter month was over by then
        by_then += same_day - by_day.get(same_days.last, Totals())
    shows_calls = may(membership_of(request).role, Action.SEE_CALLS, narrows=True)
    return {
        "by_day": by_day,
        "today": _plain(so_far),
        "today_change": spend.change(so_far.cost_nano, yesterday.cost_nano),
        "month": _plain(this_month),
        "month_change": spend.change(this_month.cost_nano, by_then.cost_nano),
        "month_start": month.first,
        "forecast": _forecast(by_day, month, _added(by_day, last_month), outlook.elapsed(workspace, now)),
        "extra": panels.shown(request, Place.FIGURE),
        "calls": call_views.recent(request, LIVE_CALLS, {}) if shows_calls else [],
    }


def _forecast(by_day: dict[Any, Totals], month: Days, last_month: Totals, elapsed: float) -> dict[str, Any]:
    """The month's end as it looks now, beside what the last month came to."""
    seen: Forecast = forecast(
        {day: totals.cost_nano for day, totals in by_day.items()},
        first=month.first,
        last=(month.first + timedelta(days=32)).replace(day=1) - timedelta(days=1),
        today=month.last,
        elapsed=elapsed,
    )
    return {
        "is_known": seen.maturity is not Maturity.NONE,
        "is_guess": seen.maturity is Maturity.GUESS,
        "expected_nano": seen.expected_nano,
        "low_nano": seen.low_nano,
        "high_nano": seen.high_nano,
        "last": seen.last,
        "history_days": seen.history_days,
        "last_month_nano": last_month.cost_nano,
        "change": spend.change(seen.expected_nano, last_month.cost_nano),
    }


def _added(by_day: dict[Any, Totals], days: Days) -> Totals:
    return sum((totals for day, totals in by_day.items() if days.first <= day <= days.last), Totals())


def _plain(totals: Totals) -> dict[str, int]:
    return {
        "cost_nano": totals.cost_nano,
        "assumed_nano": totals.assumed_nano,
        "calls": totals.calls,
        "errors": totals.errors,
        "tokens": totals.tokens,
    }


# --- Spend, movers, budgets, signals: every 20 seconds ----------------------------------------------------------------
def _spend(request: HttpRequest, look: _Look, by_day: dict[Any, Totals] | None) -> dict[str, Any]:
    """`by_day`: the workspace's totals of the charted days, where they are known already."""
    workspace = workspace_of(request)
    today = queries.today(workspace, timezone.now())
    days = Days(today - timedelta(days=CHART_DAYS - 1), today)
    names = Names(request)
    asked = question.Question(days=days, preset="30d", by=_stacked_by(request, look), compares=False)
    found = spend.answer_by_day(workspace, asked, names, rows=BREAKDOWN_ROWS, by_day=by_day)
    changed = _movers(request, today, names)
    return {
        "spend": {
            "url": f"{url(request, 'overview_spend')}?by={asked.by}&seen={look.version}",
            "chart": spend.chart(request, asked, found, names, "Spend by day"),
            "rows": spend.rows(request, asked, found, names),
            "title": question.title_of(asked.by),
            "explorer_url": f"{url(request, 'explorer')}?{asked.query()}",
            "stacks": [
                {"name": name.value, "title": question.title_of(name), "url": f"?by={name}#spend", "is_current": name == asked.by}
                for name in STACKS
            ],
        },
        "movers": changed,
        "movers_url": f"{url(request, 'explorer')}?{question.Question(days=question.preset_days('7d', today), preset='7d').query()}",
        "panels": panels.shown(request, Place.MAIN),
        "signals": panels.shown(request, Place.STATUS),
    }  # fmt: skip


def _stacked_by(request: HttpRequest, look: _Look) -> str:
    asked = request.GET.get("by", "")
    try:
        if asked:
            return queries.check_dimension(asked)
    except CannotAnswer:
        pass  # an address somebody wrote by hand: the usual one is shown
    return Dimension.FEATURE if look.mark.has_features else Dimension.MODEL


def _movers(request: HttpRequest, today: date, names: Names) -> list[dict[str, Any]]:
    """What changed most since the week before; until yesterday, because today is not over."""
    workspace = workspace_of(request)
    last = today - timedelta(days=1)
    days = Days(last - timedelta(days=MOVER_DAYS - 1), last)
    told: list[list[queries.Mover]] = []
    for one in queries.movers(workspace, days, MOVING, limit=4 * MOVERS):
        if one.change_nano:
            same = next((news for news in told if _is_same_news(one, news)), None)
            told.append([one]) if same is None else same.append(one)
    told = [sorted(news, key=lambda one: NAMED_FIRST.index(Dimension(one.dimension))) for news in told[:MOVERS]]
    found = [news[0] for news in told]
    most = max((abs(one.change_nano) for one in found), default=0)
    asked = question.Question(days=days, preset="")
    return [
        {
            "name": names.of(one.dimension, one.value),
            "dimension": question.title_of(one.dimension),
            "along": [
                names.of(other.dimension, other.value) for other in news[1:] if _is_close(other.now_nano, one.now_nano)
            ],
            "now_nano": one.now_nano,
            "before_nano": one.before_nano,
            "change": spend.change(one.now_nano, one.before_nano),
            "size": abs(one.change_nano),
            "most": most,
            "url": f"{url(request, 'explorer')}?{asked.with_filter(one.dimension, one.value)}",
        }
        for one, news in zip(found, told, strict=True)
    ]


def _is_same_news(one: queries.Mover, news: list[queries.Mover]) -> bool:
    """An agent, its only feature and their only model move together: that is one piece of news. Two customers never are."""
    known = {mover.dimension for mover in news}
    return one.dimension not in known and _is_close(one.change_nano, news[0].change_nano)


def _is_close(one: int, other: int) -> bool:
    return abs(one - other) * 50 < abs(one)
