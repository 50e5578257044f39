"""The ledger as calls to be judged, in order, a page at a time: a look of any size holds one page in memory and no transaction for long."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from django.db.models import Q

from billing.domain.extraction.record import INPUT_BUCKETS, Usage, UsageContext
from billing.ledger.kept import together
from billing.models import Entry, EntryState
from guardrails.domain.waste.values import Call
from workspaces.models import Workspace

PAGE: Final = 2_000
MOST_RUN_UP: Final = 50_000
"""In a busier hour, repetitions from further back are not seen."""
HUNG_UP: Final = "client_closed"
EXPIRED: Final = "expired"


def calls(workspace: Workspace, first: datetime, end: datetime) -> Iterator[Call]:
    """Attempts admitted from `first` until before `end`, oldest first, inside the workspace."""
    for _, legs in groupby(_lines(workspace, first, end), key=lambda line: line.rid):
        call = call_of(list(legs))
        if call is not None:
            yield call


def run_up(workspace: Workspace, since: datetime, window: timedelta) -> datetime:
    """From where to read so that what is counted from `since` on is known: the window before, but not more than `MOST_RUN_UP` lines of it."""
    rows = Entry.objects.filter(workspace_id=workspace.pk, at__lt=since, at__gte=since - window).order_by("-at")
    further = rows.values_list("at", flat=True)[MOST_RUN_UP : MOST_RUN_UP + 1]
    return next(iter(further), since - window)


def _lines(workspace: Workspace, first: datetime, end: datetime) -> Iterator[Entry]:
    """The legs of an attempt have one moment and stand together."""
    rows = Entry.objects.filter(workspace_id=workspace.pk, at__lt=end).order_by("at", "rid", "leg")
    page = together(rows.filter(at__gte=first)[:PAGE])
    while page:
        yield from page
        if len(page) < PAGE:
            return
        at, rid, leg = page[-1].at, page[-1].rid, page[-1].leg
        after = Q(at__gt=at) | Q(at=at, rid__gt=rid) | Q(at=at, rid=rid, leg__gt=leg)
        page = together(rows.filter(after, at__gte=at)[:PAGE])


def call_of(legs: list[Entry]) -> Call | None:
    """One attempt of its lines, the charge first. None where the charge is not among them, or its context was lost."""
    charge = legs[0]
    if charge.leg != 0 or charge.call_id is None:
        return None
    told = next((line for line in legs if line.leg == 1), charge)
    error = told.error or (EXPIRED if told.state == EntryState.EXPIRED else "")
    return Call(
        call_id=str(charge.call_id),
        at_ms=int(charge.at.timestamp() * 1000),
        cost_nano=sum(line.cost_nano for line in legs),
        provider=charge.provider,
        model=charge.model,
        usage=_usage(told),
        attempt=charge.attempt,
        model_requested=charge.model_requested,
        feature=charge.feature,
        agent=charge.agent,
        session=charge.session,
        fingerprint=charge.fingerprint,
        error=error,
        failed=(bool(error) and error != HUNG_UP) or told.http_status >= 400,
        hung_up=error == HUNG_UP,
        assumed=legs[-1].basis == "assumed",
    )


def _usage(line: Entry) -> Usage:
    """As it was priced, but for the model that served it and the price a provider stated: those would answer for every other model, too."""
    told = line.unpacked()
    buckets: dict[str, int] = told.get("usage", {})
    said: dict[str, str] = told.get("context", {})
    stated = said.get("prompt_total", "")
    prompt = int(stated) if stated.isdigit() else sum(buckets.get(name, 0) for name in INPUT_BUCKETS)
    context = UsageContext(tier=said.get("tier", "standard"), regional=said.get("regional", ""), prompt_total=prompt)
    return Usage(buckets=buckets, fees=told.get("fees", {}), context=context)
