"""Pages of waste, under `/w/<slug>/`."""

from __future__ import annotations

from django.urls import URLPattern, path

from guardrails.waste import views

inside: list[URLPattern] = [
    path("waste/", views.waste, name="waste"),
    path("waste/look/", views.waste_look, name="waste_look"),
    path("waste/fingerprints/", views.waste_fingerprints, name="waste_fingerprints"),
    path("waste/<uuid:finding_id>/", views.waste_finding, name="waste_finding"),
    path("waste/<uuid:finding_id>/pull/", views.waste_pull, name="waste_pull"),
    path("waste/<uuid:finding_id>/undo/", views.waste_undo, name="waste_undo"),
    path("waste/<uuid:finding_id>/dismiss/", views.waste_dismiss, name="waste_dismiss"),
    path("waste/<uuid:finding_id>/restore/", views.waste_restore, name="waste_restore"),
]
