"""Pages of signals: under `/w/<slug>/`, and the link of every mail outside."""

from __future__ import annotations

from django.urls import URLPattern, path

from guardrails.signals import endpoint_views, views

outside: list[URLPattern] = [path("unsubscribe/<str:token>/", views.unsubscribe, name="unsubscribe")]

inside: list[URLPattern] = [
    path("alerts/", views.alerts, name="alerts"),
    path("alerts/live/", views.alerts_live, name="alerts_live"),
    path("alerts/archive/", views.alerts_archive_all, name="alerts_archive_all"),
    path("alerts/preferences/", views.alert_preferences, name="alert_preferences"),
    path("alerts/spend-line/", views.spend_line, name="spend_line"),
    path("alerts/<uuid:notice_id>/", views.alert, name="alert"),
    path("alerts/<uuid:notice_id>/archive/", views.alert_archive, name="alert_archive"),
    path("alerts/webhooks/", endpoint_views.endpoints, name="endpoints"),
    path("alerts/webhooks/<uuid:endpoint_id>/", endpoint_views.endpoint, name="endpoint"),
    path("alerts/webhooks/<uuid:endpoint_id>/pause/", endpoint_views.endpoint_pause, name="endpoint_pause"),
    path("alerts/webhooks/<uuid:endpoint_id>/test/", endpoint_views.endpoint_test, name="endpoint_test"),
    path("alerts/webhooks/<uuid:endpoint_id>/secret/", endpoint_views.endpoint_secret, name="endpoint_secret"),
    path("alerts/webhooks/<uuid:endpoint_id>/delete/", endpoint_views.endpoint_delete, name="endpoint_delete"),
    path(
        "alerts/webhooks/<uuid:endpoint_id>/deliveries/<int:delivery_id>/replay/",
        endpoint_views.delivery_replay,
        name="delivery_replay",
    ),
]
