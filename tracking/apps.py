"""Django's entry into the app."""

from django.apps import AppConfig
from django.core import checks

from tracking.checks import ALL_CHECKS


class TrackingConfig(AppConfig):
    """Registers one system check per setting."""

    name = "tracking"

    def ready(self) -> None:
        """Register the checks of tracking/checks.py."""
        for check in ALL_CHECKS:
            checks.register(check, checks.Tags.compatibility)
