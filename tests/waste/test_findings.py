"""From the ledger to findings, levers and what they saved."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from billing.ledger.queries import Days
from guardrails.domain.waste.values import Category
from guardrails.models import RateLimit
from guardrails.signals import digests
from guardrails.waste import actions, days, looking, queries, retention
from guardrails.waste.models import Day, Finding, Look, Saving, State
from tests.cast import Cast
from tests.waste.conftest import HAIKU, OPUS, Asking
from workspaces import actions as workspace_actions
from workspaces import tenancy
from workspaces.audit import SYSTEM
from workspaces.errors import WrongState
from workspaces.models import AuditRecord, VirtualKey, Workspace
from workspaces.routes.models import Alias

pytestmark = pytest.mark.django_db
API = Callable[..., APIClient]
V1 = "/api/v1/workspaces/acme/waste/"


@pytest.fixture
def overkill(asking: Asking) -> Finding:
    asking.ask(30, days_ago=3)
    asking.ask(5, days_ago=2, model=HAIKU, dims={"feature": "chat"})
    asking.look()
    (found,) = asking.findings(category=Category.OVERKILL)
    return found


def test_overkill_is_what_the_same_tokens_cost_less_on_the_model_the_workspace_uses_elsewhere(
    overkill: Finding,
) -> None:
    assert overkill.calls == 30
    assert overkill.about.model == OPUS
    assert overkill.facts["proposed"] == HAIKU
    assert overkill.waste_nano * 5 == overkill.cost_nano * 4, "haiku is a fifth of opus, in and out"


def test_looking_twice_counts_nothing_twice_and_late_corrections_arrive(asking: Asking) -> None:
    (cost,) = asking.ask(days_ago=1, error="provider_timeout", basis="assumed")
    at_ms = int((asking.now - timedelta(hours=2)).timestamp() * 1000)
    lost: dict[str, Any] = {
        "held": 90_000_000,
        "dims": {"feature": "summary"},
        "model": OPUS,
        "provider": "anthropic",
        "at_ms": at_ms,
    }
    rid = asking.events.emit("hold", asking.workspace.pk, **lost)
    asking.events.emit("expire", asking.workspace.pk, rid, cost=90_000_000, **lost)
    asking.look()
    asking.look(minutes=1)
    (found,) = asking.findings()
    assert (found.category, found.calls, found.waste_nano) == (Category.FAILURES, 2, cost + 90_000_000)
    assert found.assumed_nano == found.waste_nano
    told = {"input_uncached": 10, "output_text": 900}
    asking.events.emit("adjust", asking.workspace.pk, rid, cost=-60_000_000, buckets=told, **lost)
    asking.look(minutes=2)
    (found,) = asking.findings()
    assert (found.calls, found.waste_nano) == (1, cost), "the truth said that it was answered"


def test_a_look_that_runs_out_of_time_goes_on_where_it_was_and_finds_the_same(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little time a run has: no day and no part of one is begun again, so days of millions of calls come to an end."""
    monkeypatch.setattr(days, "LEAST_AT_ONCE", 3)
    for day in (3, 2, 1):
        asking.ask(10, days_ago=day, fingerprint="00ff00ff00ff00ff", output=2000, step_s=600)
    asking.look()
    whole = [(one.category, one.subject, one.calls, one.waste_nano) for one in asking.findings()]
    with tenancy.entered(asking.workspace):
        Look.objects.update(through=None, looked_at=None)
        Day.objects.all().delete()
        Finding.objects.all().delete()
    reached = []
    while not looking.look_at(asking.workspace, asking.now, seconds=-1):
        with tenancy.entered(asking.workspace):
            unfinished = Look.objects.get().unfinished
        assert unfinished is not None
        reached.append((unfinished["day"], unfinished["since_ms"] or 0))
        assert len(reached) < 100
    assert len(reached) > 12
    assert reached == sorted(set(reached)), "every run got on"
    assert [(one.category, one.subject, one.calls, one.waste_nano) for one in asking.findings()] == whole
    with tenancy.entered(asking.workspace):
        assert Look.objects.get().unfinished is None


def test_duplicates_are_found_by_their_fingerprints(asking: Asking) -> None:
    costs = asking.ask(4, fingerprint="00ff00ff00ff00ff", output=2000)
    asking.ask(2, days_ago=2, fingerprint="not-one", output=2000)
    asking.look()
    (found,) = asking.findings()
    assert (found.category, found.waste_nano, len(found.samples)) == (Category.DUPLICATES, sum(costs[1:]), 3)


def test_a_loop_gets_a_limit_on_sessions_and_the_limit_goes_again(asking: Asking, cast: Cast) -> None:
    asking.ask(150, step_s=1, dims={"feature": "scout", "session": "run-1"}, fresh=6000, output=900)
    asking.look()
    (found,) = asking.findings(category=Category.LOOPS)
    assert found.calls == 150 - 120 - 4, "one more is allowed every thirty seconds"
    actions.pull(workspace=cast.acme, by=cast.alice.actor, finding_id=found.pk)
    with tenancy.entered(cast.acme):
        limit = RateLimit.objects.get(by="session")
        assert (limit.metric, limit.limit, limit.value) == ("rph", 120, None)
    actions.undo(workspace=cast.acme, by=cast.alice.actor, finding_id=found.pk)
    with tenancy.entered(cast.acme):
        assert not RateLimit.objects.filter(by="session").exists()


def test_a_cheaper_model_is_an_alias_of_the_dear_ones_name_and_each_call_since_says_what_it_saved(
    overkill: Finding, asking: Asking, cast: Cast
) -> None:
    row = actions.pull(workspace=cast.acme, by=cast.alice.actor, finding_id=overkill.pk)
    assert (row.state, row.lever, row.before_calls) == (State.PULLED, "cheaper_model", 30)
    with tenancy.entered(cast.acme):
        alias = Alias.objects.get(name=OPUS)
        assert [place["model"] for place in alias.targets] == [HAIKU, OPUS], (
            "where the cheaper one fails, the dear one answers"
        )
        Finding.objects.filter(pk=row.pk).update(decided_at=asking.now - timedelta(days=1, minutes=5))
    costs = asking.ask(10, model=HAIKU, model_requested=OPUS)
    asking.look(minutes=1)
    with tenancy.entered(cast.acme):
        saved = Saving.objects.get(finding=row)
        assert (saved.calls, saved.cost_nano, saved.would_have_nano) == (10, sum(costs), 5 * sum(costs))
        assert queries.summary(cast.acme).saved_nano == 4 * sum(costs)
    actions.undo(workspace=cast.acme, by=cast.alice.actor, finding_id=row.pk)
    with tenancy.entered(cast.acme):
        assert not Alias.objects.exists()
        said = list(
            AuditRecord.objects.filter(action__startswith="waste.").order_by("id").values_list("action", flat=True)
        )
    assert said == ["waste.pull", "waste.undo"]


def test_an_alias_that_two_findings_rest_on_goes_with_the_last_one(asking: Asking, cast: Cast) -> None:
    for feature in ("summary", "labels"):
        asking.ask(25, days_ago=3, dims={"feature": feature})
    asking.look()
    first, second = asking.findings(category=Category.OVERKILL)
    for row in (first, second):
        actions.pull(workspace=cast.acme, by=cast.alice.actor, finding_id=row.pk)
    with pytest.raises(WrongState, match="same lever"):
        actions.undo(workspace=cast.acme, by=cast.alice.actor, finding_id=first.pk)
    for row in (second, first):
        actions.undo(workspace=cast.acme, by=cast.alice.actor, finding_id=row.pk)
    with tenancy.entered(cast.acme):
        assert not Alias.objects.exists()


def test_other_levers_are_measured_by_waste_a_call_on_whole_days_after(asking: Asking, cast: Cast) -> None:
    asking.ask(10, days_ago=6, error="provider_timeout", output=2000)
    asking.ask(10, days_ago=6.2, output=2000)
    asking.look()
    (found,) = asking.findings()
    actions.pull(workspace=cast.acme, by=cast.alice.actor, finding_id=found.pk, lever="done")
    with tenancy.entered(cast.acme):
        Finding.objects.update(decided_at=asking.now - timedelta(days=5))
        Look.objects.update(through=(asking.now - timedelta(days=5)).date())
    (still,) = asking.ask(1, days_ago=1, error="provider_timeout", output=2000)
    asking.ask(39, days_ago=1, output=2000, step_s=1)
    asking.look(minutes=1)
    with tenancy.entered(cast.acme):
        one = Saving.objects.exclude(calls=0).get()
        assert (one.calls, one.cost_nano, one.would_have_nano) == (40, still, 20 * still), "half of them failed before"
        assert queries.saved_nano(cast.acme) == 19 * still


def test_an_idle_key_costs_nothing_and_is_revoked_for_good(asking: Asking, cast: Cast) -> None:
    key = workspace_actions.create_virtual_key(workspace=cast.acme, by=cast.alice.actor, name="Old importer").row
    VirtualKey.objects.filter(pk=key.pk).update(created_at=timezone.now() - timedelta(days=60))
    asking.look()
    (found,) = asking.findings(category=Category.IDLE_KEYS)
    assert found.waste_nano == 0
    actions.pull(workspace=cast.acme, by=cast.alice.actor, finding_id=found.pk)
    key.refresh_from_db()
    assert key.revoked_at is not None
    with pytest.raises(WrongState, match="stays revoked"):
        actions.undo(workspace=cast.acme, by=cast.alice.actor, finding_id=found.pk)


def test_only_workspaces_with_new_calls_are_visited_and_a_failed_one_waits(asking: Asking, cast: Cast) -> None:
    now = asking.now
    assert list(looking.due(now, 10)) == []
    asking.ask(days_ago=0.1)
    asking.books.drain(cast.acme.pk)
    assert list(looking.due(now, 10)) == [cast.acme.pk]
    with tenancy.entered(cast.acme):
        Look.objects.create(workspace_id=cast.acme.pk, tried_at=now)
    assert list(looking.due(now, 10)) == [], "it failed a moment ago"
    asking.look()
    assert list(looking.due(now + timedelta(hours=1), 10)) == []
    actions.ask_for_look(workspace=cast.globex, by=cast.bob.actor)
    assert list(looking.due(now + timedelta(minutes=11), 10)) == [cast.globex.pk], "somebody asked"


def test_what_is_dismissed_counts_no_more_and_what_is_over_is_gone(
    overkill: Finding, asking: Asking, cast: Cast
) -> None:
    actions.dismiss(workspace=cast.acme, by=cast.alice.actor, finding_id=overkill.pk, reason="quality matters here")
    with tenancy.entered(cast.acme):
        assert queries.summary(cast.acme).waste_nano == 0
    actions.restore(workspace=cast.acme, by=cast.alice.actor, finding_id=overkill.pk)
    asking.look(days=40)
    assert [one.state for one in asking.findings(pk=overkill.pk)] == [State.GONE]
    assert retention.retire(asking.now + timedelta(days=200)) > 0
    with tenancy.entered(cast.acme):
        assert not Day.objects.exists()


def test_findings_of_one_workspace_are_not_seen_from_another(overkill: Finding, cast: Cast) -> None:
    with tenancy.entered(cast.globex):
        assert not Finding.objects.exists()
        assert not Day.objects.exists()


def test_the_pages_say_the_dollars_the_evidence_and_the_levers_and_pull_them(
    overkill: Finding, alice_client: Client, ann_client: Client
) -> None:
    listed = alice_client.get("/w/acme/waste/").content.decode()
    assert "Model overkill" in listed
    assert "summary on claude-opus-4-5" in listed
    assert "bought nothing" in alice_client.get("/w/acme/").content.decode()
    here = f"/w/acme/waste/{overkill.pk}/"
    page = alice_client.get(here).content.decode()
    for said in ("Answer with the chosen model", "which you use elsewhere", "80%", overkill.samples[0]):
        assert said in page
    assert "Answer with" not in ann_client.get(here).content.decode(), "a viewer has no lever"
    assert ann_client.post(f"{here}pull/").status_code == 403
    refused = alice_client.post(f"{here}pull/", {"lever": "cheaper_model", "model": "gpt-4"})
    assert refused.status_code == 422
    assert "Choose among" in refused.content.decode()
    assert (
        alice_client.post(f"{here}pull/", {"lever": "cheaper_model", "model": "claude-sonnet-4-5"}).status_code == 302
    )
    assert "Answer claude-opus-4-5 with claude-sonnet-4-5" in alice_client.get(here).content.decode()
    assert alice_client.post("/w/acme/waste/look/").status_code == 302
    alice_client.post("/w/acme/waste/fingerprints/", {"on": "0"})
    assert "They are off" in alice_client.get("/w/acme/waste/").content.decode()
    assert not Workspace.objects.get(slug="acme").fingerprints


def test_a_script_reads_pulls_and_undoes_and_needs_the_levers_own_scope(overkill: Finding, api: API) -> None:
    alice = api("alice")
    (row,) = alice.get(V1).json()["results"]
    assert (row["category"], row["waste_nano"], row["levers"]) == (
        "overkill",
        overkill.waste_nano,
        ["cheaper_model", "done"],
    )
    summary = alice.get(f"{V1}summary/").json()
    assert summary["waste_nano"] == overkill.waste_nano
    here = f"{V1}{overkill.pk}/"
    narrow = api("alice", "read", "budgets").post(f"{here}pull/", {}, format="json")
    assert narrow.status_code == 403
    assert "workspace" in narrow.json()["detail"]
    assert alice.post(f"{here}pull/", {"lever": "revoke_key"}, format="json").status_code == 400
    pulled = alice.post(f"{here}pull/", {}, format="json").json()
    assert (pulled["state"], pulled["lever"], pulled["levers"]) == ("pulled", "cheaper_model", [])
    assert alice.post(f"{here}dismiss/", {}, format="json").status_code == 409
    assert alice.post(f"{here}undo/").json()["state"] == "open"
    assert alice.get(V1, {"state": "nonsense"}).status_code == 400
    assert alice.post(f"{V1}look/").status_code == 202
    assert alice.patch(f"{V1}summary/", {"fingerprints": False}, format="json").json()["fingerprints"] is False
    assert api("ann").post(f"{here}pull/", {}, format="json").status_code == 403
    assert api("bob").get(here).status_code == 404


def test_the_week_s_digest_names_the_dearest_waste(overkill: Finding, asking: Asking, cast: Cast) -> None:
    today = asking.now.date()
    with tenancy.entered(cast.acme):
        facts = digests.week_of(cast.acme, Days(today - timedelta(days=6), today), asking.now)
    (section,) = [extra for extra in facts["extra"] if extra["title"] == "Waste"]
    assert section["rows"][0][0] == "Model overkill: summary on claude-opus-4-5"
    (saved,) = [extra for extra in facts["extra"] if extra["title"] == "Savings"]
    assert saved["rows"][0][:2] == ["No lever was pulled yet", "$0.00"]
    actions.pull(workspace=cast.acme, by=SYSTEM, finding_id=overkill.pk)
    with tenancy.entered(cast.acme):
        Saving.objects.create(
            workspace_id=cast.acme.pk, finding=overkill, day=today, calls=3, cost_nano=10**9, would_have_nano=4 * 10**9
        )
        facts = digests.week_of(cast.acme, Days(today - timedelta(days=6), today), asking.now)
    (saved,) = [extra for extra in facts["extra"] if extra["title"] == "Savings"]
    assert saved["rows"][0][:2] == ["Saved this week by what you changed", "$3.00"]
