"""A ledger line as rows of FOCUS 1.0, the FinOps Foundation's format of bills (focus.finops.org), so that AI spend joins the cloud's.

One row a price line of the call, because a FOCUS row has one unit and one unit price; what a line's parts do not explain (a fee, a rounding,
a charge at the hold, a correction) is a row of its own. Hence the rows of a ledger line sum to it, to the nano-dollar. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from billing.domain.money import usd_text

COLUMNS = (
    "AvailabilityZone", "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart",
    "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountStatus", "CommitmentDiscountType",
    "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceIssuerName", "ListCost",
    "ListUnitPrice", "PricingCategory", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "RegionId", "RegionName",
    "ResourceId", "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "SkuId", "SkuPriceId", "SubAccountId", "SubAccountName",
    "Tags", "x_AttemptId", "x_CallId", "x_Leg", "x_Basis", "x_PriceStatus",
)  # fmt: skip
_MILLION = Decimal(1_000_000)
_NANO = Decimal(1_000_000_000)


@dataclass(frozen=True, slots=True)
class Line:
    """A ledger line, as far as a bill tells of it."""

    attempt_id: str
    call_id: str
    leg: int
    at: datetime
    ended_at: datetime
    month: tuple[datetime, datetime]
    """The billing period: first moment of the workspace's month, and of the next."""
    provider: str
    model: str
    endpoint: str
    basis: str
    price_status: str
    cost_nano: int
    breakdown: Sequence[Mapping[str, Any]]
    """What explains the cost. None for a correction: its amount is the difference to what was charged before."""
    tags: Mapping[str, str]
    """The dimensions and tags of the call."""
    key: str
    key_name: str
    workspace: str
    workspace_name: str


def rows(line: Line) -> Iterator[dict[str, str]]:
    """The FOCUS rows of a ledger line; absent values are empty. None for a line without money."""
    explained = 0
    for part in line.breakdown:
        cost_nano = _nano(part.get("cost_usd"))
        if cost_nano:
            explained += cost_nano
            yield _row(line, cost_nano, part)
    if line.cost_nano != explained:
        yield _row(line, line.cost_nano - explained, None)


def _row(line: Line, cost_nano: int, part: Mapping[str, Any] | None) -> dict[str, str]:
    cost = usd_text(cost_nano)
    unit = "" if part is None else str(part.get("unit", ""))
    sku = f"{line.provider}/{line.model}" + (f"/{unit}" if unit else "")
    consumed, consumed_in, quantity, counted_in, unit_price = _quantities(line, cost_nano, part)
    row = dict.fromkeys(COLUMNS, "")
    row |= {
        "BilledCost": cost, "ContractedCost": cost, "EffectiveCost": cost, "ListCost": cost,
        "BillingAccountId": line.workspace, "BillingAccountName": line.workspace_name, "BillingCurrency": "USD",
        "BillingPeriodStart": _moment(line.month[0]), "BillingPeriodEnd": _moment(line.month[1]),
        "ChargeCategory": "Usage", "ChargeClass": "Correction" if line.leg else "", "ChargeFrequency": "Usage-Based",
        "ChargeDescription": f"{line.model} {unit.replace('_', ' ') or 'not itemised'}", "PricingCategory": "Standard",
        "ChargePeriodStart": _moment(line.at), "ChargePeriodEnd": _moment(max(line.ended_at, line.at + timedelta(seconds=1))),
        "ConsumedQuantity": consumed, "ConsumedUnit": consumed_in, "PricingQuantity": quantity, "PricingUnit": counted_in,
        "ContractedUnitPrice": unit_price, "ListUnitPrice": unit_price,
        "InvoiceIssuerName": line.provider, "ProviderName": line.provider, "PublisherName": line.provider,
        "ResourceId": line.key, "ResourceName": line.key_name, "ResourceType": "Virtual key",
        "ServiceCategory": "AI and Machine Learning", "ServiceName": line.endpoint, "SkuId": sku, "SkuPriceId": sku,
        "Tags": json.dumps(dict(sorted(line.tags.items())), ensure_ascii=False),
        "x_AttemptId": line.attempt_id, "x_CallId": line.call_id, "x_Leg": str(line.leg), "x_Basis": line.basis, "x_PriceStatus": line.price_status,
    }  # fmt: skip
    return row


def _quantities(line: Line, cost_nano: int, part: Mapping[str, Any] | None) -> tuple[str, str, str, str, str]:
    """(consumed, in which unit, priced, in which unit, price of one). FOCUS wants all of them of every usage, and the product of the last to
    be the cost; what no rate explains is priced as one thing. A correction is of an amount and has none."""
    said = "" if part is None else str(part.get("quantity", ""))
    price = None if part is None else _decimal(part.get("rate_per_m_usd"))
    if price is not None and said:
        return said, "Tokens", said, "Tokens", format(price / _MILLION, "f")
    if line.leg and not said:
        return "", "", "", "", ""
    one = "1" if cost_nano >= 0 else "-1"
    return said or one, "Units", one, "Units", usd_text(abs(cost_nano))


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _decimal(value: Any) -> Decimal | None:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _nano(value: Any) -> int:
    number = _decimal(value)
    return 0 if number is None else int((number * _NANO).to_integral_value())
