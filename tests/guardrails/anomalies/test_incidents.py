"""From booked calls to one incident a cause, told once, answered as wished, and taught by feedback."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from rest_framework.test import APIClient

from billing.ledger.queries import Days
from guardrails.anomalies import actions, looking, tasks, watching
from guardrails.anomalies.models import Expectation, Incident
from guardrails.demo import build, story
from guardrails.domain.anomalies.kinds import Kind
from guardrails.models import RateLimit
from guardrails.signals import digests
from guardrails.signals.letters import Reader, letter_of
from guardrails.signals.models import Delivery, Notice
from tests.cast import Cast
from tests.guardrails.anomalies.conftest import Acme
from tests.guardrails.conftest import told_whole
from workspaces import tenancy
from workspaces.audit import SYSTEM
from workspaces.models import AuditRecord, VirtualKey

pytestmark = pytest.mark.django_db
API = Callable[..., APIClient]
V1 = "/api/v1/workspaces/acme/anomalies/"
LOOPING = {"agent": "scout", "session": "run-1", "feature": "research"}


def test_a_loop_is_one_incident_of_its_session_and_is_told_once(acme_calls: Acme, loop: Incident) -> None:
    assert (loop.kind, loop.dimension, loop.value) == (Kind.LOOP, "session", "run-1")
    assert ["agent", "scout"] in loop.facts["beside"]
    assert loop.key_id == str(acme_calls.key.pk)
    assert loop.ended_at is None
    assert loop.cost_nano > 100_000_000
    assert datetime.now(UTC) - loop.started_at < timedelta(minutes=3)
    acme_calls.fires(30, dims=LOOPING)
    assert acme_calls.watch() == 0, "it goes on, and is not told again"
    (still,) = acme_calls.incidents()
    assert still.cost_nano > loop.cost_nano
    with tenancy.entered(acme_calls.workspace):
        notice = Notice.objects.get()
        assert notice.kind == "anomaly"
        assert notice.title.startswith("Runaway loop: session run-1")
        letter = letter_of(notice, Reader(acme_calls.workspace, ZoneInfo("UTC")))
        assert letter.buttons[0].url == f"http://testserver/w/acme/alerts/anomalies/{loop.pk}/"
        assert any("a day" in said for said in letter.lead), letter.lead
        assert Delivery.objects.filter(notice=notice, channel="mail").count() == 1, (
            "the owner hears it, the viewer does not"
        )


def test_calls_of_many_people_are_no_loop(acme_calls: Acme) -> None:
    for number in range(20):
        acme_calls.fires(8, dims={"session": f"s-{number}", "user": f"u-{number}", "feature": "chat"})
    assert acme_calls.watch() == 0


def test_the_workers_own_look_finds_it_too(acme_calls: Acme) -> None:
    acme_calls.fires(70, dims={"agent": "scout"})
    tasks.watch()
    tasks.look()
    tasks.lift_limits()
    (incident,) = acme_calls.incidents()
    assert (incident.dimension, incident.value) == ("agent", "scout")


def test_a_loop_below_the_least_dollars_is_not_told(acme_calls: Acme) -> None:
    acme_calls.fires(60, cost=100, dims=LOOPING)
    assert acme_calls.watch() == 0


def test_a_storm_of_errors_is_told_with_the_model_that_fails(acme_calls: Acme) -> None:
    acme_calls.fires(30, kind="void", model="gone-model", http_status=529, error="overloaded", dims={"feature": "chat"})
    acme_calls.fires(10, model="well-model", dims={"feature": "chat"})
    assert acme_calls.watch() == 1
    (incident,) = acme_calls.incidents()
    assert incident.kind == Kind.ERROR_STORM
    assert incident.observed >= 0.7
    assert (incident.dimension, incident.value) in {
        ("virtual_key", str(acme_calls.key.pk)),
        ("feature", "chat"),
        ("model", "gone-model"),
    }


def test_what_is_off_is_neither_told_nor_listed(acme_calls: Acme) -> None:
    acme_calls.inside(
        actions.set_wishes, workspace=acme_calls.workspace, by=acme_calls.owner, responses={"loop": "off"}
    )
    acme_calls.fires(60, dims=LOOPING)
    assert acme_calls.watch() == 0
    assert acme_calls.incidents() == []


def test_it_ends_when_its_sign_is_gone(acme_calls: Acme, loop: Incident) -> None:
    watching.watch(datetime.now(UTC) + timedelta(minutes=9))
    (over,) = acme_calls.incidents()
    assert over.ended_at is not None
    assert over.ended_at <= datetime.now(UTC) + timedelta(minutes=1)


# --- What is done by itself -------------------------------------------------------------------------------------------
def test_a_workspace_may_have_the_key_of_a_loop_paused_at_once(acme_calls: Acme) -> None:
    acme_calls.inside(
        actions.set_wishes, workspace=acme_calls.workspace, by=acme_calls.owner, responses={"loop": "pause_key"}
    )
    acme_calls.fires(60, dims=LOOPING)
    assert acme_calls.watch() == 1
    key = VirtualKey.objects.get(pk=acme_calls.key.pk)
    assert key.paused_at is not None
    with tenancy.entered(acme_calls.workspace):
        record = AuditRecord.objects.get(action="virtual_key.pause")
    assert record.actor == SYSTEM.name
    (incident,) = acme_calls.incidents()
    assert incident.response == "pause_key"


def test_a_workspace_may_have_a_loop_slowed_down_for_a_while(acme_calls: Acme) -> None:
    acme_calls.inside(
        actions.set_wishes, workspace=acme_calls.workspace, by=acme_calls.owner, responses={"loop": "throttle"},
        throttle_per_minute=3, throttle_minutes=20,
    )  # fmt: skip
    acme_calls.fires(60, dims=LOOPING)
    acme_calls.watch()
    limit = acme_calls.inside(lambda: RateLimit.objects.get())
    assert (limit.by, limit.value, limit.limit) == ("session", "run-1", 3)
    now = datetime.now(UTC)
    assert looking.lift_limits(now + timedelta(minutes=19)) == 0
    assert looking.lift_limits(now + timedelta(minutes=21)) == 1
    assert acme_calls.inside(lambda: RateLimit.objects.count()) == 0


def test_what_is_done_by_itself_needs_the_role_that_could_do_it(acme_calls: Acme, api: API, cast: Cast) -> None:
    answer = api("alice").patch(f"{V1}settings/", {"responses": {"loop": "pause_key"}, "least": "2.50"}, format="json")
    assert answer.status_code == 200, answer.content
    assert answer.json()["responses"]["loop"] == "pause_key"
    assert answer.json()["least"] == "2.5"
    assert api("ann").patch(f"{V1}settings/", {"least": "1"}, format="json").status_code == 403
    assert api("alice").patch(f"{V1}settings/", {"responses": {"looop": "off"}}, format="json").status_code == 400


# --- Feedback ---------------------------------------------------------------------------------------------------------
def test_a_loop_called_expected_is_held_against_the_next_one_like_it(acme_calls: Acme, loop: Incident) -> None:
    acme_calls.inside(
        actions.give_feedback,
        workspace=acme_calls.workspace,
        by=acme_calls.owner,
        incident_id=loop.pk,
        feedback="expected",
    )
    acme_calls.fires(60, dims={**LOOPING, "session": "run-2"})
    assert acme_calls.watch() == 0
    acme_calls.fires(300, dims={**LOOPING, "session": "run-3"})
    assert acme_calls.watch() == 1, "five times that is not what was expected"
    acme_calls.inside(
        actions.give_feedback, workspace=acme_calls.workspace, by=acme_calls.owner, incident_id=loop.pk, feedback=""
    )
    assert acme_calls.inside(lambda: Expectation.objects.count()) == 0


# --- Pages and API ----------------------------------------------------------------------------------------------------
def test_the_pages_show_it_with_its_levers_to_who_may_pull_them(
    loop: Incident, acme_calls: Acme, alice_client: Client, ann_client: Client, bob_client: Client
) -> None:
    assert "session run-1" in alice_client.get("/w/acme/alerts/anomalies/").content.decode()
    address = f"/w/acme/alerts/anomalies/{loop.pk}/"
    own, anns = alice_client.get(address).content.decode(), ann_client.get(address).content.decode()
    assert "Calls a minute: session run-1" in own
    assert f"{address}pause-key/" in own
    assert f"{address}feedback/" in own
    assert f"{address}pause-key/" not in anns
    assert bob_client.get(address).status_code == 404
    assert "Runaway loop" in alice_client.get("/w/acme/").content.decode()
    assert alice_client.post(f"{address}pause-key/").status_code == 302
    assert VirtualKey.objects.get(pk=acme_calls.key.pk).paused_at is not None
    assert alice_client.post(f"{address}throttle/").status_code == 302
    assert "Let it pass again" in alice_client.get(address).content.decode()
    assert alice_client.post(f"{address}feedback/", {"feedback": "expected", "when": "this_time"}).status_code == 302
    assert "Take back" in alice_client.get(address).content.decode()
    assert alice_client.get("/w/acme/alerts/anomalies/settings/").status_code == 200


def test_the_api_lists_shows_and_takes_feedback(loop: Incident, api: API) -> None:
    (row,) = api("ann").get(f"{V1}?state=open&kind=loop").json()["results"]
    assert row["id"] == str(loop.pk)
    assert row["driver"] == {"dimension": "session", "value": "run-1"}
    assert api("ann").post(f"{V1}{loop.pk}/feedback/", {"feedback": "expected"}, format="json").status_code == 403
    given = api("alice").post(f"{V1}{loop.pk}/feedback/", {"feedback": "expected"}, format="json")
    assert given.json()["feedback"] == "expected"
    assert api("ann").get(f"{V1}?state=open").json()["results"] == []
    slowed = api("alice").post(f"{V1}{loop.pk}/throttle/", {"per_minute": 5}, format="json")
    assert slowed.json()["rate_limit_id"]
    assert api("alice").post(f"{V1}{loop.pk}/throttle/", {}, format="json").status_code == 409
    assert api("alice").post(f"{V1}{loop.pk}/lift-limit/", {}, format="json").json()["rate_limit_id"] is None
    assert api("bob").get(f"{V1}{loop.pk}/").status_code in (403, 404)


def test_the_week_names_the_dearest(loop: Incident, acme_calls: Acme) -> None:
    today = datetime.now(UTC).date()
    facts = acme_calls.inside(
        digests.week_of, acme_calls.workspace, Days(today - timedelta(days=3), today), datetime.now(UTC)
    )
    assert any(extra["title"].startswith("Anomalies") for extra in facts["extra"])


# --- The demo ---------------------------------------------------------------------------------------------------------
def test_the_demos_night_of_the_runaway_agent_is_found_by_the_hour(transactional_db: None) -> None:
    now = told_whole()
    workspace = build.make(now=now, size=0.02, say=lambda text: None).workspace
    with tenancy.entered(workspace):
        actions.set_wishes(workspace=workspace, by=SYSTEM, least="0.50")
    looking.look(now)
    with tenancy.entered(workspace):
        found = list(Incident.objects.order_by("-cost_nano"))
    for one in found:
        print(one.kind, one.dimension, one.value, one.started_at, one.ended_at, one.cost_nano / 1e9)
    assert (found[0].dimension, found[0].value) in {("session", story.RUNAWAY_SESSION), ("agent", "market-scout")}
    assert found[0].kind == Kind.LOOP
    about_it = [
        one
        for one in found
        if one.started_at < (found[0].ended_at or now) and (one.ended_at or now) > found[0].started_at
    ]
    assert len(about_it) == 1, "one incident a cause"
    assert looking.look(now + timedelta(hours=1)) == 0, "nothing new is in the books"
    with tenancy.entered(workspace):
        assert looking.look_at(workspace, now) == 0, "and what is known is not told again"
        assert Incident.objects.count() == len(found)
