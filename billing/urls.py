"""Pages of the books, under `/w/<slug>/`."""

from __future__ import annotations

from django.urls import URLPattern, path

from billing.views import calls, explorer, one_call, overview

inside: list[URLPattern] = [
    path("", overview.overview, name="overview"),
    path("live/", overview.overview_live, name="overview_live"),
    path("spend/", overview.overview_spend, name="overview_spend"),
    path("explorer/", explorer.explorer, name="explorer"),
    path("explorer/export.csv", explorer.explorer_csv, name="explorer_csv"),
    path("explorer/views/", explorer.view_save, name="view_save"),
    path("explorer/views/<uuid:view_id>/delete/", explorer.view_delete, name="view_delete"),
    path("calls/", calls.calls, name="calls"),
    path("calls/<uuid:call_id>/", one_call.call, name="call"),
]
