"""Addresses of the REST API of guardrails, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path

from guardrails import api, draft_api

_W = "workspaces/<slug:slug>/"

urlpatterns = [
    path(_W + "budgets/", api.Budgets.as_view()),
    path(_W + "budgets/daily-hard-stop/", api.DailyHardStop.as_view()),
    path(_W + "budgets/monthly-control/", api.MonthlyControl.as_view()),
    path(_W + "budgets/member-caps/", api.MemberCaps.as_view()),
    path(_W + "budgets/spend-alert/", api.SpendAlert.as_view()),
    path(_W + "budgets/preview/", draft_api.PreviewDraft.as_view()),
    path(_W + "budgets/backtest/", draft_api.BacktestDraft.as_view()),
    path(_W + "budgets/<uuid:budget_id>/preview/", draft_api.PreviewChange.as_view()),
    path(_W + "budgets/<uuid:budget_id>/backtest/", draft_api.BacktestChange.as_view()),
    path(_W + "budgets/<uuid:budget_id>/", api.OneBudget.as_view()),
    path(_W + "budgets/<uuid:budget_id>/standing/", api.BudgetStanding.as_view()),
    path(_W + "rate-limits/", api.RateLimits.as_view()),
    path(_W + "rate-limits/<uuid:limit_id>/", api.OneRateLimit.as_view()),
    path(_W + "raises/", api.Raises.as_view()),
    path(_W + "raises/<uuid:raise_id>/", api.OneRaise.as_view()),
    path(_W + "raises/<uuid:raise_id>/approve/", api.ApproveRaise.as_view()),
    path(_W + "raises/<uuid:raise_id>/decline/", api.DeclineRaise.as_view()),
    path(_W + "raises/<uuid:raise_id>/withdraw/", api.WithdrawRaise.as_view()),
    path(_W + "barred-models/", api.BarredModels.as_view()),
    path(_W + "barred-models/<uuid:bar_id>/lift/", api.LiftBar.as_view()),
    path(_W + "suspend/", api.Suspend.as_view()),
    path(_W + "resume/", api.Resume.as_view()),
]
