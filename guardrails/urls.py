"""Pages of guardrails, under `/w/<slug>/`."""

from __future__ import annotations

from django.urls import URLPattern, path

from guardrails import budget_views, limit_views, raise_views, views

inside: list[URLPattern] = [
    path("guardrails/", views.guardrails, name="guardrails"),
    path("guardrails/live/", views.guardrails_live, name="guardrails_live"),
    path("guardrails/controls/<str:kind>/", views.preset, name="preset"),
    path("guardrails/budgets/new/", budget_views.budget_new, name="budget_new"),
    path("guardrails/budgets/<uuid:budget_id>/", budget_views.budget_edit, name="budget_edit"),
    path("guardrails/budgets/try/", budget_views.budget_try, name="budget_try"),
    path("guardrails/budgets/<uuid:budget_id>/try/", budget_views.budget_try_change, name="budget_try_change"),
    path("guardrails/budgets/<uuid:budget_id>/delete/", budget_views.budget_delete, name="budget_delete"),
    path("guardrails/budgets/<uuid:budget_id>/raise/", raise_views.raise_new, name="raise_new"),
    path("guardrails/raises/<uuid:raise_id>/approve/", raise_views.raise_approve, name="raise_approve"),
    path("guardrails/raises/<uuid:raise_id>/decline/", raise_views.raise_decline, name="raise_decline"),
    path("guardrails/raises/<uuid:raise_id>/withdraw/", raise_views.raise_withdraw, name="raise_withdraw"),
    path("guardrails/barred/<uuid:bar_id>/lift/", views.bar_lift, name="bar_lift"),
    path("guardrails/suspend/", views.suspend, name="suspend"),
    path("guardrails/resume/", views.resume, name="resume"),
    path("guardrails/limits/new/", limit_views.limit_new, name="limit_new"),
    path("guardrails/limits/<uuid:limit_id>/", limit_views.limit_edit, name="limit_edit"),
    path("guardrails/limits/<uuid:limit_id>/delete/", limit_views.limit_delete, name="limit_delete"),
]
