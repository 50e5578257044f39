"""Addresses of the REST API of anomalies, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path

from guardrails.anomalies import api

_W = "workspaces/<slug:slug>/"

urlpatterns = [
    path(_W + "anomalies/", api.Anomalies.as_view()),
    path(_W + "anomalies/settings/", api.Settings.as_view()),
    path(_W + "anomalies/<uuid:incident_id>/", api.OneAnomaly.as_view()),
    path(_W + "anomalies/<uuid:incident_id>/feedback/", api.GiveFeedback.as_view()),
    path(_W + "anomalies/<uuid:incident_id>/pause-key/", api.PauseKey.as_view()),
    path(_W + "anomalies/<uuid:incident_id>/throttle/", api.Throttle.as_view()),
    path(_W + "anomalies/<uuid:incident_id>/lift-limit/", api.LiftLimit.as_view()),
]
