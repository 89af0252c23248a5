"""Root URLs: what machines ask here, everything else in the apps."""

from django.urls import include, path, re_path

from automations.api.base import UnknownPathView
from project.operations import healthz, metrics, readyz

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
    path("", include("automations.urls")),
    re_path("^api/", UnknownPathView.as_view()),
]
