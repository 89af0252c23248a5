"""Django's entry into the app."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from automations.checks import ALL_CHECKS, DEPLOY_CHECKS


class AutomationsConfig(AppConfig):
    """Registers one system check per setting, and what only a deployment needs."""

    name = "automations"

    def ready(self) -> None:
        """Register the checks of automations/checks.py."""
        for check in ALL_CHECKS:
            checks.register(check, checks.Tags.compatibility)
        for check in DEPLOY_CHECKS:
            checks.register(check, checks.Tags.security, deploy=True)
