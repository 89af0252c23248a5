"""The paths of the app. Those of the API end without a slash, pages for people with one."""

from csp.decorators import csp_replace
from django.templatetags.static import static
from django.urls import path
from django.utils.functional import lazy
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerSplitView

from automations.api.accounts import AccountListView
from automations.api.automations import AutomationListView, AutomationStatsView, AutomationView
from automations.api.openapi import SchemaView
from automations.api.runs import (
    AutomationRunCsvView,
    AutomationRunListView,
    RunCsvView,
    RunListView,
    RunView,
)
from automations.api.series import AutomationOutcomesView, AutomationSeriesView, SeriesView
from automations.dashboard.access import choose_zone, go_home, login, logout
from automations.dashboard.accounts import poll_accounts
from automations.dashboard.automation_page import show_automation
from automations.dashboard.form import edit_automation
from automations.dashboard.overview import poll_overview, show_overview, switch_automation
from automations.dashboard.run_list import show_run
from automations.privacy.views import data_deletion, data_deletion_status
from automations.webhook.views import InstagramWebhookView

app_name = "automations"

# Lazily: paths may be read before the apps are ready.
_ICON = lazy(static, str)("automations/icon.svg")

_WEBHOOK = "api/webhooks/instagram"
_API = "api/workspaces/<str:wsid>"
_LIST = f"{_API}/automations"
_ONE = f"{_LIST}/<str:automation_id>"
_PAGES = "workspaces/<str:wsid>"
_PAGE = f"{_PAGES}/automations/<str:automation_id>"
_DOCS_POLICY = {"style-src": ["'self'", "'unsafe-inline'"], "img-src": ["'self'", "data:"]}
_DOCS = SpectacularSwaggerSplitView.as_view(url_name="automations:schema")

urlpatterns = [
    path(_WEBHOOK, InstagramWebhookView.as_view(), name="webhook"),
    path(f"{_WEBHOOK}/data-deletion", data_deletion, name="data-deletion"),
    path(f"{_WEBHOOK}/data-deletion/<str:code>", data_deletion_status, name="data-deletion-status"),
    path(_LIST, AutomationListView.as_view(), name="automation-list"),
    path(_ONE, AutomationView.as_view(), name="automation"),
    path(f"{_ONE}/stats", AutomationStatsView.as_view(), name="automation-stats"),
    path(f"{_ONE}/runs", AutomationRunListView.as_view(), name="automation-runs"),
    path(f"{_ONE}/runs.csv", AutomationRunCsvView.as_view(), name="automation-runs-csv"),
    path(f"{_ONE}/series", AutomationSeriesView.as_view(), name="automation-series"),
    path(f"{_ONE}/outcomes", AutomationOutcomesView.as_view(), name="automation-outcomes"),
    path(f"{_API}/runs", RunListView.as_view(), name="run-list"),
    path(f"{_API}/runs.csv", RunCsvView.as_view(), name="run-csv"),
    path(f"{_API}/runs/<str:run_id>", RunView.as_view(), name="run"),
    path(f"{_API}/series", SeriesView.as_view(), name="series"),
    path(f"{_API}/accounts", AccountListView.as_view(), name="account-list"),
    path("api/schema", SchemaView.as_view(), name="schema"),
    path("api/docs", csp_replace(_DOCS_POLICY)(_DOCS), name="docs"),
    path("", go_home, name="home"),
    # Browsers ask for it on pages that name no icon, as those of the browsable API.
    path("favicon.ico", RedirectView.as_view(url=_ICON)),
    path(f"{_PAGES}/", show_overview, name="overview"),
    path(f"{_PAGES}/live", poll_overview, name="overview-live"),
    path(f"{_PAGES}/accounts", poll_accounts, name="accounts-live"),
    path(f"{_PAGE}/switch", switch_automation, name="automation-switch"),
    path(f"{_PAGES}/new-automation/", edit_automation, name="automation-new"),
    path(f"{_PAGE}/", show_automation, name="automation-page"),
    path(f"{_PAGE}/change/", edit_automation, name="automation-change"),
    path(f"{_PAGES}/runs/<str:run_id>/", show_run, name="run-page"),
    path(f"{_PAGES}/zone", choose_zone, name="zone"),
    path("login", login, name="login"),
    path("logout", logout, name="logout"),
]
