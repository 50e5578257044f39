"""FOCUS 1.0's columns as its specification prints them (FOCUS_Spec at tag v1.0, `specification/columns/*.md`): level, nulls, type, allowed values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal

_AI, _STATUS = ("AI and Machine Learning",), ("Used", "Unused")
_MUST, _MAY = "Mandatory", "Conditional"

# name: (feature level, allows nulls, type, allowed values)
COLUMNS: dict[str, tuple[str, bool, str, tuple[str, ...]]] = {
    "AvailabilityZone": ("Recommended", True, "text", ()),
    "BilledCost": (_MUST, False, "decimal", ()),
    "BillingAccountId": (_MUST, False, "text", ()),
    "BillingAccountName": (_MUST, True, "text", ()),
    "BillingCurrency": (_MUST, False, "text", ("USD",)),
    "BillingPeriodEnd": (_MUST, False, "moment", ()),
    "BillingPeriodStart": (_MUST, False, "moment", ()),
    "ChargeCategory": (_MUST, False, "text", ("Usage", "Purchase", "Tax", "Credit", "Adjustment")),
    "ChargeClass": (_MUST, True, "text", ("Correction",)),
    "ChargeDescription": (_MUST, True, "text", ()),
    "ChargeFrequency": ("Recommended", False, "text", ("One-Time", "Recurring", "Usage-Based")),
    "ChargePeriodEnd": (_MUST, False, "moment", ()),
    "ChargePeriodStart": (_MUST, False, "moment", ()),
    "CommitmentDiscountCategory": (_MAY, True, "text", ("Spend", "Usage")),
    "CommitmentDiscountId": (_MAY, True, "text", ()),
    "CommitmentDiscountName": (_MAY, True, "text", ()),
    "CommitmentDiscountStatus": (_MAY, True, "text", _STATUS),
    "CommitmentDiscountType": (_MAY, True, "text", ()),
    "ConsumedQuantity": (_MAY, True, "decimal", ()),
    "ConsumedUnit": (_MAY, True, "text", ()),
    "ContractedCost": (_MUST, False, "decimal", ()),
    "ContractedUnitPrice": (_MAY, True, "price", ()),
    "EffectiveCost": (_MUST, False, "decimal", ()),
    "InvoiceIssuerName": (_MUST, False, "text", ()),
    "ListCost": (_MUST, False, "decimal", ()),
    "ListUnitPrice": (_MAY, True, "price", ()),
    "PricingCategory": (_MAY, True, "text", ("Standard", "Dynamic", "Committed", "Other")),
    "PricingQuantity": (_MUST, True, "decimal", ()),
    "PricingUnit": (_MUST, True, "text", ()),
    "ProviderName": (_MUST, False, "text", ()),
    "PublisherName": (_MUST, False, "text", ()),
    "RegionId": (_MAY, True, "text", ()),
    "RegionName": (_MAY, True, "text", ()),
    "ResourceId": (_MAY, True, "text", ()),
    "ResourceName": (_MAY, True, "text", ()),
    "ResourceType": (_MAY, True, "text", ()),
    "ServiceCategory": (_MUST, False, "text", _AI),  # of the twenty that are allowed, ours
    "ServiceName": (_MUST, False, "text", ()),
    "SkuId": (_MAY, True, "text", ()),
    "SkuPriceId": (_MAY, True, "text", ()),
    "SubAccountId": (_MAY, True, "text", ()),
    "SubAccountName": (_MAY, True, "text", ()),
    "Tags": (_MAY, True, "tags", ()),
}
OF_USAGE = (
    "ConsumedQuantity", "ConsumedUnit", "PricingQuantity", "PricingUnit", "ListUnitPrice", "ContractedUnitPrice", "SkuId", "SkuPriceId",
    "PricingCategory",
)  # fmt: skip
"""Not null where ChargeCategory is Usage and ChargeClass is not Correction."""
_FORMS = {
    "decimal": re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?"),
    "price": re.compile(r"\d+(\.\d+)?([eE][+-]?\d+)?"),
    "moment": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
    "text": re.compile(r".+", re.DOTALL),
    "tags": re.compile(r"\{.*\}", re.DOTALL),
}


def wrong_rows(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """What the specification does not allow in these rows; an empty cell is null."""
    return [f"{number}: {wrong}" for number, row in enumerate(rows) for wrong in _wrong(row)]


def _wrong(row: Mapping[str, str]) -> Iterable[str]:
    for name in row:
        if name not in COLUMNS and not name.startswith("x_"):
            yield f"{name} is no column of FOCUS 1.0, and not marked as our own"
    for name, (level, allows_nulls, kind, allowed) in COLUMNS.items():
        value = row.get(name)
        if value is None:
            if level == _MUST:
                yield f"{name} is missing"
        elif value == "":
            if not allows_nulls:
                yield f"{name} is null"
        elif not _FORMS[kind].fullmatch(value) or (allowed and value not in allowed):
            yield f"{name} is {value!r}"
    if row["ChargePeriodStart"] >= row["ChargePeriodEnd"] or row["BillingPeriodStart"] >= row["BillingPeriodEnd"]:
        yield "a period ends before it begins"
    if row["ChargeCategory"] == "Usage" and row["ChargeClass"] != "Correction":
        yield from (f"{name} is null for usage" for name in OF_USAGE if row[name] == "")
    tags = json.loads(row["Tags"]) if row["Tags"] else {}
    if not all(isinstance(value, str) for value in tags.values()):
        yield "a tag is no text"


def product(row: Mapping[str, str]) -> Decimal:
    return Decimal(row["PricingQuantity"]) * Decimal(row["ListUnitPrice"])
