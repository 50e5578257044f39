"""Addresses of the REST API of waste, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path

from guardrails.waste import api

_W = "workspaces/<slug:slug>/"

urlpatterns = [
    path(_W + "waste/", api.Waste.as_view()),
    path(_W + "waste/summary/", api.WasteSummary.as_view()),
    path(_W + "waste/look/", api.LookForWaste.as_view()),
    path(_W + "waste/<uuid:finding_id>/", api.OneWaste.as_view()),
    path(_W + "waste/<uuid:finding_id>/dismiss/", api.DismissWaste.as_view()),
    path(_W + "waste/<uuid:finding_id>/restore/", api.RestoreWaste.as_view()),
    path(_W + "waste/<uuid:finding_id>/pull/", api.PullWaste.as_view()),
    path(_W + "waste/<uuid:finding_id>/undo/", api.UndoWaste.as_view()),
]
