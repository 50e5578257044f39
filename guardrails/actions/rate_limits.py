"""Rate limits: made, changed, deleted."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from billing.domain.dimensions import Dimension
from guardrails.actions import checked
from guardrails.domain.rates import Metric
from guardrails.models import RateLimit
from workspaces import audit, policy_signal
from workspaces.actions.base import changing, identity, words
from workspaces.audit import Actor
from workspaces.errors import Invalid, NotThere, Taken
from workspaces.models import Workspace

MOST_LIMITS = 200
HIGHEST = 1_000_000_000


def create_rate_limit(
    *,
    workspace: Workspace,
    by: Actor,
    metric: str,
    limit: Any,
    scope: str = "",
    value: str | None = "",
    burst: Any = 0,
    name: str = "",
) -> RateLimit:
    """`metric` is rpm, rph, tpm or concurrency; `scope` and `value` as for budgets; `burst` how much at once (0: a whole window's worth)."""
    kind = checked.one_of(Metric, metric, field="metric")
    with changing(workspace):
        if RateLimit.objects.count() >= MOST_LIMITS:
            raise Invalid(f"A workspace has at most {MOST_LIMITS} rate limits. Delete some first.")
        on, of = checked.scope(workspace, scope, value)
        row = RateLimit(
            by=on, value=of, metric=kind, limit=checked.whole(limit, low=1, high=HIGHEST, field="limit"), burst=_burst(kind, burst),
            name=words(name, field="name", longest=120, required=False), created_by=by.name[:254],
        )  # fmt: skip
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError as error:
            if "rate_limit_not_twice" not in str(error):
                raise
            raise Taken("There is such a limit on this scope already. Change that one.", field="value") from None
        _announce(workspace, by, "rate_limit.create", row, {}, _shown(row))
    return row


def each_key_limit(*, workspace: Workspace, by: Actor, limit: Any) -> RateLimit:
    """The Custom Rate Limit: so many requests a minute for each virtual key, made or set to another number."""
    with changing(workspace):
        known = RateLimit.objects.filter(by=Dimension.VIRTUAL_KEY, value=None, metric=Metric.RPM).first()
        if known is not None:
            return update_rate_limit(workspace=workspace, by=by, limit_id=known.pk, limit=limit)
        return create_rate_limit(
            workspace=workspace, by=by, metric=Metric.RPM, limit=limit, scope=Dimension.VIRTUAL_KEY, value=None
        )


def update_rate_limit(
    *,
    workspace: Workspace,
    by: Actor,
    limit_id: UUID | str,
    limit: Any = None,
    burst: Any = None,
    name: str | None = None,
) -> RateLimit:
    with changing(workspace):
        row = _found(limit_id)
        before = _shown(row)
        if limit is not None:
            row.limit = checked.whole(limit, low=1, high=HIGHEST, field="limit")
        if burst is not None:
            row.burst = _burst(Metric(row.metric), burst)
        if name is not None:
            row.name = words(name, field="name", longest=120, required=False)
        if _shown(row) != before:
            row.save()
            _announce(workspace, by, "rate_limit.change", row, before, _shown(row))
    return row


def delete_rate_limit(*, workspace: Workspace, by: Actor, limit_id: UUID | str) -> None:
    with changing(workspace):
        row = _found(limit_id)
        _announce(workspace, by, "rate_limit.delete", row, _shown(row), {})
        row.delete()


def _burst(metric: Metric, value: Any) -> int:
    burst = checked.whole(value, low=0, high=HIGHEST, field="burst")
    if metric is Metric.CONCURRENCY and burst:
        raise Invalid("A limit on calls at the same time has no burst.", field="burst")
    return burst


def _announce(
    workspace: Workspace, by: Actor, action: str, row: RateLimit, before: dict[str, Any], after: dict[str, Any]
) -> None:
    policy_signal.bump(workspace)
    audit.record(workspace=workspace, by=by, action=action, target=str(row.pk), before=before, after=after)


def _found(limit_id: UUID | str) -> RateLimit:
    row = RateLimit.objects.filter(pk=identity(limit_id)).first()
    if row is None:
        raise NotThere("There is no such rate limit in this workspace.")
    return row


def _shown(row: RateLimit) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("by", "value", "metric", "limit", "burst", "name")}
