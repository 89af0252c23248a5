"""The paths of the app; none ends in a slash."""

from __future__ import annotations

from django.urls import path

from automations.account_api import AccountListView
from automations.api import AutomationListView, AutomationStatsView, AutomationView
from automations.login import login, logout
from automations.views import instagram_webhook

app_name = "automations"

_LIST = "api/workspaces/<str:wsid>/automations"

urlpatterns = [
    path("api/webhooks/instagram", instagram_webhook, name="webhook"),
    path(_LIST, AutomationListView.as_view(), name="automation-list"),
    path(f"{_LIST}/<str:automation_id>", AutomationView.as_view(), name="automation"),
    path(
        f"{_LIST}/<str:automation_id>/stats",
        AutomationStatsView.as_view(),
        name="automation-stats",
    ),
    path("api/workspaces/<str:wsid>/accounts", AccountListView.as_view(), name="account-list"),
    path("login", login, name="login"),
    path("logout", logout, name="logout"),
]
