"""A call without a price, or with half of one, is an alarm: by model, with what it can have cost at most."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from rest_framework.test import APIClient

from billing import actions, prices_status
from billing.ledger import queries
from billing.prices import default_book
from tests.billing.ledger.conftest import Books, Events
from tests.cast import Cast
from workspaces import tenancy

pytestmark = pytest.mark.django_db
ACME = "/api/v1/workspaces/acme/prices/unpriced/"
TOKENS = {"input_uncached": 1_000_000, "output_text": 1_000_000}


def unsure(cast: Cast) -> list[prices_status.Unsure]:
    with tenancy.entered(cast.acme):
        return prices_status.unsure(cast.acme, queries.month_to_date(cast.acme, datetime.now(UTC)))


def test_without_such_calls_there_is_no_alarm(cast: Cast, events: Events, books: Books) -> None:
    events.call(cast.acme.id)
    events.emit("void", cast.acme.id, price_status="unpriced", error="provider_unreachable")
    books.drain(cast.acme.id)
    assert unsure(cast) == []


def test_unpriced_and_partial_models_are_listed_with_a_bound(
    cast: Cast,
    events: Events,
    books: Books,
) -> None:
    for provider, model, status, buckets in (
        ("openai", "gpt-9", "unpriced", TOKENS),
        ("openai", "gpt-9", "unpriced", TOKENS),
        ("openai_compatible", "own", "unpriced", TOKENS),
        ("openai", "gpt-4o", "partial", {"images": 3}),
    ):
        events.call(cast.acme.id, cost=0, held=0, provider=provider, model=model, price_status=status, buckets=buckets)
    events.call(cast.globex.id, price_status="unpriced")
    books.drain(cast.acme.id)
    books.drain(cast.globex.id)

    first, own, partial = unsure(cast)
    assert (first.model, first.status, first.calls, first.tokens) == ("gpt-9", "unpriced", 2, 4_000_000)
    assert (first.charged_nano, own.calls) == (0, 1)
    assert (partial.model, partial.at_most_nano) == ("gpt-4o", None)
    now = datetime.now(UTC)
    dearest = default_book().rates("openai", "gpt-5.5-pro", now)
    assert dearest is not None
    compiled = dearest.compiled()
    assert compiled is not None
    listed = (
        (compiled.numerators["input_uncached"] + compiled.numerators["output_text"]) * 10**6 // compiled.denominator
    )
    assert first.at_most_nano is not None
    assert own.at_most_nano is not None
    assert first.at_most_nano >= 2 * listed
    assert own.at_most_nano >= first.at_most_nano // 2


def test_a_price_that_was_booked_ends_the_alarm(cast: Cast, events: Events, books: Books) -> None:
    rid = events.call(cast.acme.id, cost=0, held=0, price_status="unpriced", buckets=TOKENS)
    books.drain(cast.acme.id)
    assert [row.calls for row in unsure(cast)] == [1]
    fields = events.fields("adjust", cast.acme.id, rid, cost=5, buckets=TOKENS)
    payload = fields["p"].replace('"basis"', '"price_status_before": "unpriced", "basis"')
    events.add(cast.acme.id, {**fields, "k": "rerate", "l": "2", "p": payload})
    books.drain(cast.acme.id)
    assert unsure(cast) == []
    totals = "SELECT cost_nano, unpriced_calls, calls, output_tokens FROM billing_rollup_day WHERE dimension = ''"
    assert books.rows(totals) == [(5, 0, 1, 1_000_000)]


def test_an_unpriced_call_that_nobody_ended_is_unpriced_and_not_free(
    cast: Cast,
    events: Events,
    books: Books,
) -> None:
    rid = events.emit("hold", cast.acme.id, held=0)
    events.emit("expire", cast.acme.id, rid, cost=0, held=0)
    books.drain(cast.acme.id)
    [row] = unsure(cast)
    assert (row.status, row.calls, row.at_most_nano) == ("unpriced", 1, None)


def test_a_re_rating_without_a_leg_of_its_own_is_not_booked(cast: Cast, events: Events, books: Books) -> None:
    rid = events.call(cast.acme.id)
    for leg in ("", "1", "40000"):
        events.add(cast.acme.id, {**events.fields("adjust", cast.acme.id, rid, cost=5), "k": "rerate", "l": leg})
    done = books.drain(cast.acme.id)
    assert (done.booked, done.buried) == (1, 3)


def test_the_api_tells_it(cast: Cast, events: Events, books: Books, api: Callable[..., APIClient]) -> None:
    events.call(cast.acme.id, cost=7, held=7, price_status="unpriced", provider="openai", model="gpt-9", buckets=TOKENS)
    books.drain(cast.acme.id)
    [row] = api("ann").get(ACME).json()["results"]
    assert (row["model"], row["calls"], row["charged_usd"]) == ("gpt-9", 1, "0.000000007")
    assert api("bob").get("/api/v1/workspaces/globex/prices/unpriced/").json()["results"] == []
    assert api("bob").get(ACME).status_code == 404
    for query in ("?days=0", "?days=x", "?days=401", "?days=٣"):
        assert api("ann").get(ACME + query).status_code == 400
    actions.create_price(workspace=cast.acme, by=cast.alice.actor, provider="openai", model="gpt-9", free=True)
    assert api("ann").get(ACME + "?days=1").json()["results"][0]["model"] == "gpt-9"  # until it is re-rated
