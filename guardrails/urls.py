"""Pages of guardrails, under `/w/<slug>/`."""

from __future__ import annotations

from django.urls import URLPattern, path

from guardrails import views

inside: list[URLPattern] = [
    path("guardrails/", views.guardrails, name="guardrails"),
    path("guardrails/live/", views.guardrails_live, name="guardrails_live"),
    path("guardrails/controls/<str:kind>/", views.preset, name="preset"),
    path("guardrails/budgets/new/", views.budget_new, name="budget_new"),
    path("guardrails/budgets/<uuid:budget_id>/", views.budget_edit, name="budget_edit"),
    path("guardrails/budgets/<uuid:budget_id>/delete/", views.budget_delete, name="budget_delete"),
    path("guardrails/limits/new/", views.limit_new, name="limit_new"),
    path("guardrails/limits/<uuid:limit_id>/", views.limit_edit, name="limit_edit"),
    path("guardrails/limits/<uuid:limit_id>/delete/", views.limit_delete, name="limit_delete"),
]
