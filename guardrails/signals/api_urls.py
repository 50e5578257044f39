"""Addresses of the REST API of signals, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path

from guardrails.signals import api

_W = "workspaces/<slug:slug>/"

urlpatterns = [
    path(_W + "alerts/", api.Alerts.as_view()),
    path(_W + "alerts/archive/", api.ArchiveAlerts.as_view()),
    path(_W + "alerts/<uuid:notice_id>/", api.OneAlert.as_view()),
    path(_W + "alerts/<uuid:notice_id>/archive/", api.ArchiveAlert.as_view()),
    path(_W + "alerts/<uuid:notice_id>/restore/", api.RestoreAlert.as_view()),
    path(_W + "alert-preferences/", api.Preferences.as_view()),
    path(_W + "spend-alert/", api.SpendAlert.as_view()),
    path(_W + "webhooks/", api.Webhooks.as_view()),
    path(_W + "webhooks/<uuid:endpoint_id>/", api.OneWebhook.as_view()),
    path(_W + "webhooks/<uuid:endpoint_id>/test/", api.TestWebhook.as_view()),
    path(_W + "webhooks/<uuid:endpoint_id>/rotate-secret/", api.RotateWebhookSecret.as_view()),
    path(_W + "webhooks/<uuid:endpoint_id>/deliveries/", api.Deliveries.as_view()),
    path(_W + "webhooks/<uuid:endpoint_id>/deliveries/<int:delivery_id>/replay/", api.ReplayDelivery.as_view()),
]
