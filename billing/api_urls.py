"""Addresses of the REST API of the books, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path

from billing import api, export_api, price_api, saved_api

_W = "workspaces/<slug:slug>/"

urlpatterns = [
    path(_W + "usage/", api.Usage.as_view()),
    path(_W + "calls/", api.Calls.as_view()),
    path(_W + "calls/<uuid:call_id>/", api.OneCall.as_view()),
    path(_W + "saved-views/", saved_api.SavedViews.as_view()),
    path(_W + "saved-views/<uuid:view_id>/", saved_api.OneSavedView.as_view()),
    path(_W + "ledger/export/", export_api.LedgerExport.as_view()),
    path(_W + "prices/", price_api.Prices.as_view()),
    path(_W + "prices/lookup/", price_api.PriceNow.as_view()),
    path(_W + "prices/unpriced/", price_api.Unpriced.as_view()),
    path(_W + "prices/<uuid:price_id>/", price_api.OnePrice.as_view()),
]
