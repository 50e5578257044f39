"""Pages of guardrails, under `/w/<slug>/`."""

from __future__ import annotations

from django.urls import URLPattern, path

from guardrails import raise_views, views

inside: list[URLPattern] = [
    path("guardrails/", views.guardrails, name="guardrails"),
    path("guardrails/live/", views.guardrails_live, name="guardrails_live"),
    path("guardrails/controls/<str:kind>/", views.preset, name="preset"),
    path("guardrails/budgets/new/", views.budget_new, name="budget_new"),
    path("guardrails/budgets/<uuid:budget_id>/", views.budget_edit, name="budget_edit"),
    path("guardrails/budgets/<uuid:budget_id>/delete/", views.budget_delete, name="budget_delete"),
    path("guardrails/budgets/<uuid:budget_id>/raise/", raise_views.raise_new, name="raise_new"),
    path("guardrails/raises/live/", raise_views.raises_live, name="raises_live"),
    path("guardrails/raises/<uuid:raise_id>/approve/", raise_views.raise_approve, name="raise_approve"),
    path("guardrails/raises/<uuid:raise_id>/decline/", raise_views.raise_decline, name="raise_decline"),
    path("guardrails/raises/<uuid:raise_id>/withdraw/", raise_views.raise_withdraw, name="raise_withdraw"),
    path("guardrails/barred/<uuid:bar_id>/lift/", views.bar_lift, name="bar_lift"),
    path("guardrails/suspend/", views.suspend, name="suspend"),
    path("guardrails/resume/", views.resume, name="resume"),
    path("guardrails/limits/new/", views.limit_new, name="limit_new"),
    path("guardrails/limits/<uuid:limit_id>/", views.limit_edit, name="limit_edit"),
    path("guardrails/limits/<uuid:limit_id>/delete/", views.limit_delete, name="limit_delete"),
]
