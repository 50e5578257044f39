"""The REST API of a workspace's own prices: what is agreed, what a model costs now, and what has no price yet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import actions, overrides, prices_status
from billing.domain.money import usd_text
from billing.domain.rates import PER, PER_THOUSAND, STANDARD
from billing.ledger import queries
from billing.ledger.queries import Days
from billing.models import PriceOverride
from workspaces.errors import Invalid, NotThere
from workspaces.rest import Strict, WorkspaceAPIView, listed, paged
from workspaces.roles import Action

MOST_DAYS = 400


class PriceShown(serializers.ModelSerializer[PriceOverride]):
    discount_percent = serializers.DecimalField(7, 4, normalize_output=True, allow_null=True)
    rates = serializers.DictField(
        child=serializers.CharField(), help_text="Unit to dollars, as price lists print them."
    )

    class Meta:
        model = PriceOverride
        fields = [
            "id", "kind", "provider", "model", "discount_percent", "rates", "tier", "context_window", "max_output_tokens",
            "valid_from", "valid_to", "note", "created_at", "created_by",
        ]  # fmt: skip
        read_only_fields = fields


class PriceWanted(Strict):
    provider = serializers.CharField(max_length=32, help_text="As credentials name it; `*` for all (discounts only).")
    model = serializers.CharField(max_length=200, required=False, help_text="As the provider names it; `*` for all.")
    discount_percent = serializers.CharField(
        max_length=24, required=False, help_text="Off the list price, e.g. `12.5`."
    )
    rates = serializers.DictField(
        child=serializers.CharField(max_length=24),
        required=False,
        help_text='Own rates: {"input_uncached": "0.15", "output_text": "0.60"}, per million tokens.',
    )
    free = serializers.BooleanField(required=False, help_text="A model on your own machines: costs nothing.")
    tier = serializers.CharField(max_length=32, required=False)
    context_window = serializers.IntegerField(required=False, allow_null=True)
    max_output_tokens = serializers.IntegerField(required=False, allow_null=True)
    valid_from = serializers.DateTimeField(required=False, help_text="Default: now.")
    valid_to = serializers.DateTimeField(required=False, allow_null=True, help_text="Null: until further notice.")
    note = serializers.CharField(max_length=200, required=False, allow_blank=True)


class PriceChange(Strict):
    valid_to = serializers.DateTimeField(required=False, allow_null=True, help_text="Null: until further notice.")
    note = serializers.CharField(max_length=200, required=False, allow_blank=True)


class Prices(WorkspaceAPIView):
    needs: ClassVar = {"GET": Action.SEE_SPEND, "POST": Action.MANAGE_PRICES}

    @extend_schema(operation_id="prices_list", responses=listed(PriceShown))
    def get(self, request: Request, slug: str) -> Response:
        rows = PriceOverride.objects.filter(workspace_id=self.workspace.pk)
        return paged(request, rows, lambda row: PriceShown(row).data)

    @extend_schema(operation_id="prices_create", request=PriceWanted, responses={201: PriceShown})
    def post(self, request: Request, slug: str) -> Response:
        row = actions.create_price(workspace=self.workspace, by=self.actor, **PriceWanted.read(request))
        return Response(PriceShown(row).data, status=201)


class OnePrice(WorkspaceAPIView):
    """What has begun cannot be rewritten: it is ended (DELETE, or `valid_to`) and followed by another."""

    needs: ClassVar = {"GET": Action.SEE_SPEND, "PATCH": Action.MANAGE_PRICES, "DELETE": Action.MANAGE_PRICES}

    @extend_schema(operation_id="prices_show", responses=PriceShown)
    def get(self, request: Request, slug: str, price_id: UUID) -> Response:
        row = PriceOverride.objects.filter(workspace_id=self.workspace.pk, pk=price_id).first()
        if row is None:
            raise NotThere("There is no such price in this workspace.")
        return Response(PriceShown(row).data)

    @extend_schema(operation_id="prices_change", request=PriceChange, responses=PriceShown)
    def patch(self, request: Request, slug: str, price_id: UUID) -> Response:
        changes = PriceChange.read(request, partial=True)
        row = actions.change_price(
            workspace=self.workspace,
            by=self.actor,
            price_id=price_id,
            valid_to=changes.get("valid_to"),
            until_further_notice="valid_to" in changes and changes["valid_to"] is None,
            note=changes.get("note"),
        )
        return Response(PriceShown(row).data)

    @extend_schema(operation_id="prices_end", responses={204: None})
    def delete(self, request: Request, slug: str, price_id: UUID) -> Response:
        actions.end_price(workspace=self.workspace, by=self.actor, price_id=price_id)
        return Response(status=204)


class Rate(serializers.Serializer[Any]):
    unit = serializers.CharField()
    usd = serializers.CharField()
    per = serializers.IntegerField(help_text="So many units for that price.")


class Quoted(serializers.Serializer[Any]):
    provider = serializers.CharField()
    model = serializers.CharField()
    at = serializers.DateTimeField()
    priced = serializers.BooleanField()
    free = serializers.BooleanField()
    discount_percent = serializers.CharField()
    price_version = serializers.CharField()
    tiers = serializers.DictField(child=Rate(many=True))


class PriceNow(WorkspaceAPIView):
    """What a model costs this workspace at a moment, own prices and discounts included: what a call admitted then is charged by."""

    needs: ClassVar = {"GET": Action.SEE_SPEND}

    @extend_schema(
        operation_id="prices_lookup",
        parameters=[
            OpenApiParameter("provider", OpenApiTypes.STR, required=True),
            OpenApiParameter("model", OpenApiTypes.STR, required=True),
            OpenApiParameter("at", OpenApiTypes.DATETIME, description="Default: now."),
        ],
        responses=Quoted,
    )
    def get(self, request: Request, slug: str) -> Response:
        provider, model = _named(request, "provider"), _named(request, "model")
        at = _moment(request)
        book = overrides.book_of(self.workspace)
        rates = book.rates(provider, model, at)
        tiers = {}
        for tier in sorted(rates.tiers or {STANDARD}) if rates else ():
            found = rates.compiled(tier) if rates else None
            if found is not None:
                tiers[tier] = [
                    {"unit": unit, "usd": usd, "per": PER.get(unit, PER_THOUSAND)}
                    for unit, usd in sorted(found.printed.items())
                ]
        return Response(
            {
                "provider": provider,
                "model": model,
                "at": at.isoformat(),
                "priced": rates is not None,
                "free": bool(rates and rates.free),
                "discount_percent": str(float((1 - rates.discount) * 100)).removesuffix(".0") if rates else "0",
                "price_version": book.version,
                "tiers": tiers,
            }
        )


class UnsureRow(serializers.Serializer[Any]):
    provider = serializers.CharField()
    model = serializers.CharField()
    status = serializers.ChoiceField(["unpriced", "partial"])
    calls = serializers.IntegerField(help_text="Attempts that were sent.")
    tokens = serializers.IntegerField()
    charged_usd = serializers.CharField(help_text="What was held, or the part that is known.")
    at_most_usd = serializers.CharField(
        allow_null=True, help_text="Their tokens at the dearest rates listed; fees, pictures and time are in no bound."
    )
    first_at = serializers.DateTimeField()
    last_at = serializers.DateTimeField()
    why = serializers.ListField(child=serializers.CharField())


class Unpriced(WorkspaceAPIView):
    """Models with calls whose price is not known, or not wholly. Make a price for them; `manage.py rerate` then corrects the books."""

    needs: ClassVar = {"GET": Action.SEE_SPEND}

    @extend_schema(
        operation_id="prices_unpriced",
        parameters=[
            OpenApiParameter("days", OpenApiTypes.INT, description=f"Of the last so many days: 1 to {MOST_DAYS} (30).")
        ],
        responses=listed(UnsureRow, whole=True),
    )
    def get(self, request: Request, slug: str) -> Response:
        text = request.query_params.get("days", "30")
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= MOST_DAYS):
            raise Invalid(f"Write a whole number from 1 to {MOST_DAYS}.", field="days")
        today = queries.today(self.workspace, datetime.now(UTC))
        found = prices_status.unsure(self.workspace, Days(today - timedelta(days=int(text) - 1), today))
        return Response({"results": [_unsure(row) for row in found], "next": None})


def _unsure(row: prices_status.Unsure) -> dict[str, Any]:
    return {
        "provider": row.provider,
        "model": row.model,
        "status": row.status,
        "calls": row.calls,
        "tokens": row.tokens,
        "charged_usd": usd_text(row.charged_nano),
        "at_most_usd": None if row.at_most_nano is None else usd_text(row.at_most_nano),
        "first_at": row.first_at.isoformat(),
        "last_at": row.last_at.isoformat(),
        "why": list(row.why),
    }


def _named(request: Request, name: str) -> str:
    value = request.query_params.get(name, "")
    if not 0 < len(value) <= 200 or not value.isprintable():
        raise Invalid(f"Write ?{name}=", field=name)
    return value


def _moment(request: Request) -> datetime:
    text = request.query_params.get("at")
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None or not 2000 < moment.year < 2200:
            raise ValueError(text)
    except ValueError:
        raise Invalid("Write a time with its zone, like 2026-12-01T00:00:00Z.", field="at") from None
    return moment.astimezone(UTC)
