"""The REST API's manners: a POST repeated is done once, an edit of what has changed is refused, a token that asks too often waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from tests.cast import Cast, token_of
from workspaces import idempotency, tenancy
from workspaces.models import AuditRecord, IdempotentAnswer, VirtualKey

Api = Callable[..., APIClient]
ACME = "/api/v1/workspaces/acme/"
KEYS = ACME + "virtual-keys/"


def make(client: APIClient, once: str, **body: Any) -> Any:
    return client.post(KEYS, {"name": "prod", **body}, format="json", headers={"Idempotency-Key": once})


@pytest.mark.django_db
def test_a_repeated_post_is_answered_again_and_done_once(api: Api, cast: Cast) -> None:
    alice = api("alice")
    first, again = make(alice, "k1"), make(alice, "k1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert first.json()["virtual_key"].startswith("slk_")
    assert again["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first
    assert VirtualKey.objects.filter(workspace=cast.acme).count() == 1
    assert make(alice, "k2").json()["id"] != first.json()["id"]


@pytest.mark.django_db
def test_the_answer_that_is_kept_shows_no_secret_to_who_reads_the_database(api: Api, cast: Cast) -> None:
    text = make(api("alice"), "a-name-too-long-for-chance").json()["virtual_key"]
    with tenancy.entered(cast.acme):
        row = IdempotentAnswer.objects.get()
    stored = b"".join(bytes(value) for value in (row.key, row.request, row.sealed))
    assert text.encode() not in stored
    assert b"a-name-too-long" not in stored
    with tenancy.entered(cast.globex):
        assert not IdempotentAnswer.objects.exists()


@pytest.mark.django_db
def test_a_key_belongs_to_one_request_of_one_token(api: Api, cast: Cast) -> None:
    alice = api("alice")
    first = make(alice, "k1")
    other = make(alice, "k1", agent="bot")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert make(api("alice"), "k1").json()["id"] != first.json()["id"], "another token, another key"
    for bad in ("", "x" * 256, "caf\xe9"):
        assert make(alice, bad).status_code == 400


@pytest.mark.django_db
def test_what_failed_may_be_tried_again_and_left_nothing(api: Api, cast: Cast) -> None:
    alice = api("alice")
    assert make(alice, "k1", output_limit=-5).status_code == 400
    with tenancy.entered(cast.acme):
        assert not IdempotentAnswer.objects.exists()
    assert make(alice, "k1").status_code == 201


@pytest.mark.django_db
def test_answers_are_forgotten_after_a_day(api: Api, cast: Cast) -> None:
    alice = api("alice")
    first = make(alice, "k1").json()
    with tenancy.entered(cast.acme):
        IdempotentAnswer.objects.update(made_at=timezone.now() - timedelta(hours=25))
    assert make(alice, "k1").json()["id"] != first["id"]
    with tenancy.entered(cast.acme):
        IdempotentAnswer.objects.update(made_at=timezone.now() - timedelta(hours=25))
    assert idempotency.purge() == 1


def test_two_at_once_make_one_key(committed_cast: Cast) -> None:
    token = token_of(committed_cast.alice)
    answers: list[Any] = []

    def ask() -> None:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        try:
            answers.append(make(client, "k1").json()["id"])
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert len(set(answers)) == 1
    assert VirtualKey.objects.filter(workspace=committed_cast.acme).count() == 1


@pytest.mark.django_db
def test_an_edit_of_what_has_changed_meanwhile_is_refused(api: Api, cast: Cast) -> None:
    alice = api("alice")
    address = f"{KEYS}{make(alice, 'k').json()['id']}/"
    tag = alice.get(address)["ETag"]
    VirtualKey.objects.update(last_used_at=timezone.now())
    assert alice.get(address)["ETag"] == tag, "being used is no edit"
    changed = alice.patch(address, {"name": "mine"}, format="json", headers={"If-Match": tag})
    assert changed.status_code == 200
    assert changed["ETag"] == alice.get(address)["ETag"] != tag
    late = alice.patch(address, {"name": "yours"}, format="json", headers={"If-Match": tag})
    assert (late.status_code, late.json()["code"]) == (412, "changed_meanwhile")
    assert alice.get(address).json()["name"] == "mine"
    assert alice.patch(address, {"name": "any"}, format="json", headers={"If-Match": "*"}).status_code == 200


@pytest.mark.django_db
def test_a_budget_keeps_its_tag_while_money_moves_and_an_old_tag_deletes_nothing(api: Api, cast: Cast) -> None:
    alice = api("alice")
    made = alice.post(ACME + "budgets/", {"name": "All", "cap": "10", "period": "month"}, format="json")
    assert made.status_code == 201, made.content
    address = f"{ACME}budgets/{made.json()['id']}/"
    tag = alice.get(address)["ETag"]
    assert alice.patch(address, {"cap": "20"}, format="json", headers={"If-Match": tag}).status_code == 200
    assert alice.delete(address, headers={"If-Match": tag}).status_code == 412
    assert alice.delete(address, headers={"If-Match": alice.get(address)["ETag"]}).status_code == 204


@pytest.mark.django_db
def test_a_token_that_asks_too_often_is_told_when_to_come_back(api: Api, cast: Cast, settings: Any) -> None:
    settings.API_REQUESTS_A_MINUTE = 3
    alice, other = api("alice"), api("alice")
    answers = [alice.get(KEYS) for _ in range(5)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert answers[0]["RateLimit-Limit"] == "3"
    assert 1 <= len(refused) <= 2, "two at most, one when a minute began in between"
    assert refused[0].json()["code"] == "too_many_requests"
    assert 1 <= int(refused[0]["Retry-After"]) <= 62
    assert other.get(KEYS).status_code == 200, "another token is counted by itself"


@pytest.mark.django_db
def test_an_export_of_what_happened_is_one_record_even_when_posted_twice(api: Api, cast: Cast) -> None:
    alice = api("alice")
    for _ in range(2):
        make(alice, "k1")
    with tenancy.entered(cast.acme):
        assert AuditRecord.objects.filter(action="virtual_key.create").count() == 1
