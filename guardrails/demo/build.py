"""Makes the demo workspace: its people, keys and budgets by the ordinary actions, its past by `past`, booked by the ledger's own writer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import connection, transaction

from billing.domain import keys
from billing.domain.book import PriceBook
from billing.domain.dimensions import Dimension
from billing.ledger import writer
from billing.ledger.packs import packing
from billing.ledger.stream import money_stream
from billing.prices import default_book
from guardrails import actions as guardrail_actions
from guardrails import recovery
from guardrails.actions import create_budget, create_rate_limit
from guardrails.demo import past, story, traffic
from guardrails.demo.past import KeyOfDemo, Past
from guardrails.demo.traffic import Planned
from guardrails.domain.budgets import Strategy
from guardrails.domain.rates import Metric
from guardrails.limiter import history
from guardrails.limiter.connection import sync_store
from guardrails.models import Budget
from guardrails.waste import looking
from guardrails.waste.models import Look
from workspaces import actions, audit, tenancy
from workspaces.audit import Actor
from workspaces.directory.models import Department
from workspaces.models import AuditRecord, Membership, Plan, Role, User, Workspace

Say = Callable[[str], None]

OPERATOR: Final = Actor("manage.py demo", installation=True)
BATCH: Final = 4000
SEED: Final = 20_261_121
TOTAL_MONTHLY_USD: Final = "3000"
DAILY_STOP_USD: Final = "240"
BEGUN: Final = "demo.begun"
MADE: Final = "demo.made"
"""In the audit log: a demo that was begun and not made was interrupted."""


class NotHere(Exception):
    """The demo is not made in a production, and not twice. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Made:
    workspace: Workspace
    calls: int
    seconds: float


def make(*, now: datetime, size: float = 1.0, slug: str = story.SLUG, say: Say) -> Made:
    """The demo workspace with its past; one that was interrupted is made anew. `now` is aware, in any zone; `size` scales the number of calls.
    Raises NotHere."""
    if settings.PRODUCTION:
        raise NotHere("The demo's password is printed in its documentation: it is never made in a production.")
    with _alone():
        begun = Workspace.objects.filter(slug=slug).first()
        if begun is not None and not is_half_made(begun):
            raise NotHere(f"There is a workspace {slug} already.")
        if begun is not None:  # half of a past is no story, and where it broke off depends on the day: anew
            say("The demo was interrupted while it was written: it is made anew.")
            actions.delete_workspace(workspace=begun, by=OPERATOR, typed_slug=slug)
        return _make(now=now, size=size, slug=slug, say=say)


def is_half_made(workspace: Workspace) -> bool:
    """Whether a demo was begun here and not finished."""
    with tenancy.entered(workspace):
        said = set(
            AuditRecord.objects.filter(workspace_id=workspace.pk, action__in=(BEGUN, MADE)).values_list(
                "action", flat=True
            )
        )
    return BEGUN in said and MADE not in said


@contextmanager
def _alone() -> Iterator[None]:
    """Two that write the same demo would take each other's half for an interrupted one. The lock ends with this connection at the latest."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended('sluice demo', 0))")
        (is_mine,) = cursor.fetchone()
    if not is_mine:
        raise NotHere("The demo is being written just now: wait until it is there.")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(hashtextextended('sluice demo', 0))")


def _make(*, now: datetime, size: float, slug: str, say: Say) -> Made:
    began = time.monotonic()
    book = default_book()
    with transaction.atomic():
        owner = _person(story.OWNER, "Dana Demo", story.PASSWORD)
        workspace = actions.create_workspace(
            slug=slug, name=story.NAME, owner=owner, by=OPERATOR, time_zone=story.TIME_ZONE, plan=Plan.TEAM
        )
        with tenancy.entered(workspace):
            departments = _people(workspace)
            virtual_keys = _keys(workspace)
            credentials = _credentials(workspace)
            budgets = _budgets(workspace)
            audit.record(workspace=workspace, by=OPERATOR, action=BEGUN, target=slug)
    say(f"{story.NAME} with {len(story.PEOPLE) + 1} people, {len(virtual_keys)} keys and {len(budgets)} budgets")
    local = now.astimezone(ZoneInfo(story.TIME_ZONE))
    in_force = _in_force(budgets, local)
    written = Past(
        workspace.pk, book=book, budgets=in_force, virtual_keys=virtual_keys, credentials=credentials, departments=departments
    )  # fmt: skip
    calls = 0
    for month in traffic.months(local):
        planned = traffic.planned(month, local, size=size, chance=Random(SEED + month.number))
        _scale(planned, month.target_usd * size, book)
        _book(workspace, written.events(planned))
        calls += len(planned)
        say(f"{month.first:%B %Y}: {len(planned):,} calls are on the books ({time.monotonic() - began:.0f} s)")
    packing.pack_due(now)  # what the worker would do over the next ten minutes
    recovery.rebuild(workspace.pk)
    with tenancy.entered(
        workspace
    ):  # the worker may have looked while the past was half written: anew, from the first day
        Look.objects.filter(workspace_id=workspace.pk).update(through=None)
    looking.look_at(workspace, now, seconds=1800)
    with tenancy.entered(workspace):
        audit.record(workspace=workspace, by=OPERATOR, action=MADE, target=slug)
    say(f"What of it was waste is on its page ({time.monotonic() - began:.0f} s)")
    return Made(workspace, calls, time.monotonic() - began)


def _scale(planned: list[Planned], usd: float, book: PriceBook) -> None:
    """Tokens by a factor, so that the month comes to its sum. Twice, because tokens are whole."""
    for _ in range(2):
        whole = sum(past.cost_usd(call, book) for call in planned)
        if whole:
            past.scaled(planned, usd / whole)


def _book(workspace: Workspace, events: Iterable[past.Fields]) -> None:
    """Into the stream and out of it, a batch at a time; what is booked leaves Redis, whose memory is for the gate."""
    stream, store, partition = money_stream(), sync_store(), keys.partition_of(workspace.pk)
    waiting = iter(events)
    while batch := list(islice(waiting, BATCH)):
        last = history.append(store, workspace.pk, batch)
        writer.drain(stream, partition, batch=BATCH)
        writer.drain_now(stream, [partition], timeout_s=120)  # what the installation's own writer took in hand
        stream.trim({partition: last})


def _person(email: str, name: str, password: str | None = None) -> User:
    user, _ = User.objects.get_or_create(email=email, defaults={"name": name})
    if password is None:
        user.set_unusable_password()
    else:
        user.set_password(password)
    user.name = name
    user.save(update_fields=["password", "name"])
    EmailAddress.objects.get_or_create(user=user, email=email, defaults={"primary": True, "verified": True})
    return user


def _people(workspace: Workspace) -> dict[str, str]:
    """Departments, agents and members; answers who is where."""
    departments = {
        name: actions.add_department(workspace=workspace, by=OPERATOR, name=name) for name in story.DEPARTMENTS
    }
    for name, department in story.AGENTS:
        actions.add_agent(workspace=workspace, by=OPERATOR, name=name, department_id=_id(departments, department))
    where = {}
    for who, name, role, department in story.PEOPLE:
        member: Membership = actions.add_member(
            workspace=workspace,
            by=OPERATOR,
            user=_person(story.address_of(who), name, story.PASSWORD if who == story.LEAD else None),
            role=Role(role),
        )
        actions.change_member(
            workspace=workspace, by=OPERATOR, membership_id=member.pk, department_id=_id(departments, department)
        )
        where[who] = department
    return where


def _id(departments: dict[str, Department], name: str) -> Any:
    return departments[name].pk


def _keys(workspace: Workspace) -> dict[str, KeyOfDemo]:
    made = {}
    for name, environment, agent, department in story.KEYS:
        key = actions.create_virtual_key(
            workspace=workspace, by=OPERATOR, name=name, environment=environment, agent=agent, department=department
        ).row
        made[name] = KeyOfDemo(str(key.pk), environment, agent, department)
    return made


def _credentials(workspace: Workspace) -> dict[str, str]:
    """A made-up key of every provider of the story, and the simulator where there is one: through it real calls can be made."""
    made = {}
    for provider in sorted({provider for feature in story.FEATURES for provider, _, _ in feature.models}):
        credential = actions.add_credential(
            workspace=workspace, by=OPERATOR, provider=provider, secret=f"demo-{secrets.token_hex(20)}", verify=False
        )
        made[provider] = str(credential.pk)
    if settings.SIMULATOR_URL:
        actions.add_credential(workspace=workspace, by=OPERATOR, provider="simulator", secret="", verify=False)
    return made


def _budgets(workspace: Workspace) -> dict[str, Budget]:
    """By a name of the story's own."""
    made = {
        "month": guardrail_actions.monthly_control(workspace=workspace, by=OPERATOR, cap_usd=TOTAL_MONTHLY_USD),
        "day": guardrail_actions.daily_hard_stop(workspace=workspace, by=OPERATOR, cap_usd=DAILY_STOP_USD),
        "members": guardrail_actions.member_caps(workspace=workspace, by=OPERATOR, cap_usd="150"),
        "summary": create_budget(
            workspace=workspace, by=OPERATOR, cap="1400", period="month", scope=Dimension.FEATURE, value="ticket-summary",
            name="Ticket summaries", strategy=Strategy.THROTTLE, alert_percent=60, throttle_percent=90,
        ),
        "agents": create_budget(
            workspace=workspace, by=OPERATOR, cap="40", period="day", scope=Dimension.AGENT, value=None, name="Each agent a day",
        ),
        "customers": create_budget(
            workspace=workspace, by=OPERATOR, cap="450", period="month", scope=Dimension.CUSTOMER, value=None, name="Each customer",
            strategy=Strategy.ALERT_ONLY,
        ),
    }  # fmt: skip
    create_rate_limit(
        workspace=workspace, by=OPERATOR, metric=Metric.RPM, limit="600", scope=Dimension.VIRTUAL_KEY, value=None
    )
    return made


def _in_force(budgets: dict[str, Budget], now: datetime) -> list[tuple[Any, int]]:
    """Budgets with the moment they were made, as the story has it: the hard ones are the answer to the night of the runaway."""
    after_ms = int(traffic.runaway_ended(now).timestamp() * 1000)
    return [(budget.rule(), after_ms if name in ("day", "agents") else 0) for name, budget in budgets.items()]
