"""A workspace's own prices: what they do to the book, who may write them, and that the next call is admitted by them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from billing import actions, overrides
from billing.domain.extraction.record import Usage, UsageContext
from billing.domain.pricing import PriceBook, price
from billing.models import PriceOverride
from billing.prices import default_book
from tests.cast import Cast
from workspaces import audit, tenancy
from workspaces.errors import Refused
from workspaces.models import AuditRecord

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ACME = "/api/v1/workspaces/acme/"
Api = Callable[..., APIClient]


def usage(served: str = "", tier: str = "standard") -> Usage:
    return Usage({"input_uncached": 1_000_000}, context=UsageContext(model_served=served, tier=tier))


def cost(
    book: PriceBook, provider: str, model: str, at: datetime = NOW, served: str = "", tier: str = "standard"
) -> int | None:
    return price(usage(served, tier), book.rates(provider, model, at)).cost_nano


def text(moment: datetime) -> str:
    return moment.isoformat()


# --- The book ---------------------------------------------------------------------------------------------------------
RATES = {"input_uncached": "2", "output_text": "8"}


def test_an_agreed_price_holds_whatever_name_the_answer_gives_the_model() -> None:
    book = default_book().with_overrides([{"provider": "openai", "model": "gpt-4o", "units": RATES}])

    assert cost(book, "openai", "gpt-4o", served="gpt-4o-2024-08-06") == 2_000_000_000
    assert cost(book, "openai", "gpt-4o-2024-11-20") == 2_000_000_000
    assert cost(book, "openai", "gpt-4o-mini") == 150_000_000


def test_a_price_of_one_snapshot_is_not_the_price_of_the_model() -> None:
    book = default_book().with_overrides([{"provider": "openai", "model": "gpt-4o-2024-08-06", "units": RATES}])

    assert cost(book, "openai", "gpt-4o") == 2_500_000_000
    assert cost(book, "openai", "gpt-4o-2024-08-06") == 2_000_000_000


def test_before_and_after_an_agreed_price_the_list_holds() -> None:
    row = {
        "provider": "openai",
        "model": "gpt-4o",
        "units": RATES,
        "from": text(NOW - DAY),
        "to": text(NOW + DAY),
    }
    book = default_book().with_overrides([row])

    days = [cost(book, "openai", "gpt-4o", NOW + n * DAY) for n in (-2, -1, 0, 1)]
    assert days == [2_500_000_000, 2_000_000_000, 2_000_000_000, 2_500_000_000]
    assert cost(book, "openai", "gpt-4o", tier="batch") == 1_250_000_000


def test_a_local_model_is_free_only_while_it_is() -> None:
    row = {"provider": "ollama", "model": "llama3", "free": True, "from": text(NOW), "max_output": 4096}
    book = default_book().with_overrides([{**row, "provider": "openai_compatible"}])

    assert cost(book, "openai_compatible", "llama3", NOW - DAY) is None
    assert cost(book, "openai_compatible", "llama3", NOW + DAY) == 0
    meta = book.meta("openai_compatible", "llama3")
    assert meta is not None
    assert meta.max_output_tokens == 4096
    assert "llama3" in book.models("openai_compatible")


@pytest.mark.parametrize("whose", ["gemini", "google"])
def test_a_provider_may_be_called_by_either_of_its_names(whose: str) -> None:
    book = default_book().with_overrides([{"provider": whose, "model": "gemini-2.5-flash", "discount": "0.5"}])
    listed = cost(default_book(), "gemini", "gemini-2.5-flash")

    assert listed is not None
    assert cost(book, "gemini", "gemini-2.5-flash") == listed // 2
    assert cost(book, "google", "models/gemini-2.5-flash") == listed // 2


def test_discounts_are_not_added_up_the_closest_counts() -> None:
    book = default_book().with_overrides(
        [
            {"provider": "*", "model": "gpt-4o", "discount": "0.2"},
            {"provider": "openai", "model": "*", "discount": "0.1"},
            {"provider": "*", "model": "*", "discount": "0.5"},
        ]
    )

    assert cost(book, "openai", "gpt-4o") == 2_000_000_000
    assert cost(book, "openai", "gpt-4o-mini") == 135_000_000
    assert cost(book, "groq", "llama-3.1-8b-instant") == 25_000_000


def test_a_later_discount_replaces_an_earlier_one_and_none_is_taken_off_an_agreed_price() -> None:
    rows = [
        {"provider": "openai", "model": "*", "discount": "0.1"},
        {"provider": "openai", "model": "*", "discount": "0.2", "from": text(NOW)},
        {"provider": "openai", "model": "gpt-4o-mini", "units": RATES},
    ]
    book = default_book().with_overrides(rows)

    assert cost(book, "openai", "gpt-4o", NOW - DAY) == 2_250_000_000
    assert cost(book, "openai", "gpt-4o", NOW + DAY) == 2_000_000_000
    assert cost(book, "openai", "gpt-4o-mini", NOW) == 2_000_000_000


# --- Actions ----------------------------------------------------------------------------------------------------------
def made(cast: Cast, **values: Any) -> PriceOverride:
    return actions.create_price(
        workspace=cast.acme, by=cast.alice.actor, **{"provider": "openai", "model": "gpt-4o", **values}
    )


def book_of(cast: Cast) -> PriceBook:
    with tenancy.entered(cast.acme):
        return overrides.book_of(cast.acme)


@pytest.mark.django_db
def test_a_price_is_audited_raises_the_policy_version_and_is_in_the_book(cast: Cast) -> None:
    before = cast.acme.policy_version
    row = made(cast, discount_percent="12.5", note="contract 7")

    assert cast.acme.policy_version == before + 1
    with tenancy.entered(cast.acme):
        record = AuditRecord.objects.get(action="price.create")
    assert record.after["discount_percent"] == "12.5"
    assert audit.verify(cast.acme.pk).fault == ""
    assert cost(book_of(cast), "openai", "gpt-4o", row.valid_from + DAY) == 2_187_500_000
    assert cost(book_of(cast), "openai", "gpt-4o", row.valid_from - DAY) == 2_500_000_000
    assert book_of(cast).version.startswith(default_book().version + "+own-")
    assert len(book_of(cast).version) <= 64


@pytest.mark.django_db
def test_the_same_prices_are_the_same_book_so_that_pinned_rates_compare(cast: Cast) -> None:
    made(cast, free=True, provider="ollama", model="llama3")
    assert book_of(cast) is book_of(cast)
    made(cast, discount_percent="1")
    one, other = book_of(cast), book_of(cast)
    assert one.rates("openai", "gpt-4o", NOW) is other.rates("openai", "gpt-4o", NOW)


@pytest.mark.django_db
def test_without_own_prices_the_book_is_the_list(cast: Cast) -> None:
    assert book_of(cast) is default_book()


@pytest.mark.django_db
def test_what_has_begun_is_ended_and_stays_as_history(cast: Cast) -> None:
    begun = made(cast, discount_percent="10", valid_from=datetime.now(UTC) - DAY)
    planned = made(cast, discount_percent="20", valid_from=datetime.now(UTC) + DAY)
    for row in (begun, planned, begun):
        actions.end_price(workspace=cast.acme, by=cast.alice.actor, price_id=row.id)

    with tenancy.entered(cast.acme):
        assert list(PriceOverride.objects.values_list("pk", flat=True)) == [begun.pk]
    book = book_of(cast)
    assert cost(book, "openai", "gpt-4o", datetime.now(UTC) - DAY / 2) == 2_250_000_000
    assert cost(book, "openai", "gpt-4o", datetime.now(UTC) + 2 * DAY) == 2_500_000_000


@pytest.mark.django_db
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"discount_percent": "10", "free": True},
        {"discount_percent": "0"},
        {"discount_percent": "100.1"},
        {"discount_percent": "-5"},
        {"discount_percent": "1e1"},
        {"discount_percent": "٣"},
        {"discount_percent": True},
        {"discount_percent": "NaN"},
        {"rates": {}},
        {"rates": {"input_tokens": "1"}},
        {"rates": {"input_uncached": "-1"}},
        {"rates": {"input_uncached": "1e9"}},
        {"rates": {"input_uncached": "1,5"}},
        {"rates": {"input_uncached": None}},
        {"rates": {"input_uncached": "1"}, "model": "*"},
        {"rates": {"input_uncached": "1"}, "provider": "*"},
        {"rates": {"input_uncached": "1"}, "tier": "express"},
        {"free": True, "tier": "batch"},
        {"free": True, "provider": "nowhere"},
        {"free": True, "model": "a\nb"},
        {"free": True, "context_window": 0},
        {"free": True, "valid_from": datetime(2001, 1, 1, tzinfo=UTC)},
        {"free": True, "valid_to": datetime(2001, 1, 1, tzinfo=UTC)},
    ],
)
def test_a_price_that_cannot_be_meant_is_refused_by_name(cast: Cast, values: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        made(cast, **values)
    with tenancy.entered(cast.acme):
        assert not PriceOverride.objects.exists()


# --- The API ----------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_a_price_is_made_looked_up_changed_and_ended_through_the_api(cast: Cast, api: Api) -> None:
    alice = api("alice")
    answer = alice.post(
        ACME + "prices/",
        {"provider": "openai_compatible", "model": "acme-8b", "rates": {"input_uncached": "0.10"}, "note": "own GPUs"},
        format="json",
    )
    assert answer.status_code == 201, answer.content
    own = answer.json()
    assert (own["kind"], own["rates"], own["valid_to"]) == ("rates", {"input_uncached": "0.1"}, None)
    assert [row["id"] for row in alice.get(ACME + "prices/").json()["results"]] == [own["id"]]

    now = alice.get(ACME + "prices/lookup/?provider=openai_compatible&model=Acme-8B").json()
    assert now["priced"] is True
    assert {"unit": "input_uncached", "usd": "0.1", "per": 1_000_000} in now["tiers"]["standard"]
    assert alice.get(ACME + "prices/lookup/?provider=openai_compatible&model=x").json()["priced"] is False

    later = (datetime.now(UTC) + DAY).isoformat()
    changed = alice.patch(f"{ACME}prices/{own['id']}/", {"valid_to": later}, format="json")
    assert changed.status_code == 200, changed.content
    assert changed.json()["valid_to"]
    assert alice.patch(f"{ACME}prices/{own['id']}/", {"rates": {}}, format="json").status_code == 400
    assert alice.delete(f"{ACME}prices/{own['id']}/").status_code == 204
    assert alice.get(f"{ACME}prices/{own['id']}/").json()["valid_to"] < later


@pytest.mark.django_db
def test_prices_are_the_owners_admins_and_billings_to_write_and_nobody_elses_to_see(cast: Cast, api: Api) -> None:
    row = made(cast, discount_percent="10")
    ann, bob = api("ann"), api("bob")

    assert ann.get(ACME + "prices/").status_code == 200
    body = {"provider": "openai", "discount_percent": "99"}
    assert ann.post(ACME + "prices/", body, format="json").status_code == 403
    assert ann.delete(f"{ACME}prices/{row.id}/").status_code == 403
    assert bob.get(f"/api/v1/workspaces/globex/prices/{row.id}/").status_code == 404
    assert bob.delete(f"/api/v1/workspaces/globex/prices/{row.id}/").status_code == 404
    assert bob.get("/api/v1/workspaces/globex/prices/").json()["results"] == []
    with tenancy.entered(cast.globex):
        assert overrides.book_of(cast.globex) is default_book()


@pytest.mark.django_db
@pytest.mark.parametrize("query", ["", "?provider=openai", "?provider=openai&model=gpt-4o&at=yesterday", "?model=x"])
def test_a_lookup_that_cannot_be_answered_is_a_400(api: Api, query: str) -> None:
    assert api("alice").get(ACME + "prices/lookup/" + query).status_code == 400
