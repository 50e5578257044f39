"""Pages of anomalies, under `/w/<slug>/`."""

from __future__ import annotations

from django.urls import URLPattern, path

from guardrails.anomalies import views

inside: list[URLPattern] = [
    path("alerts/anomalies/", views.anomalies, name="anomalies"),
    path("alerts/anomalies/settings/", views.anomaly_settings, name="anomaly_settings"),
    path("alerts/anomalies/<uuid:incident_id>/", views.anomaly, name="anomaly"),
    path("alerts/anomalies/<uuid:incident_id>/feedback/", views.anomaly_feedback, name="anomaly_feedback"),
    path("alerts/anomalies/<uuid:incident_id>/pause-key/", views.anomaly_pause_key, name="anomaly_pause_key"),
    path("alerts/anomalies/<uuid:incident_id>/throttle/", views.anomaly_throttle, name="anomaly_throttle"),
    path("alerts/anomalies/<uuid:incident_id>/lift-limit/", views.anomaly_lift_limit, name="anomaly_lift_limit"),
]
