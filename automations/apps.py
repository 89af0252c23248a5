"""Django's entry into the app."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from automations.checks import ALL_CHECKS, DEPLOY_CHECKS
from automations.operations.verification import CHECKS
from tracking.maintenance.verification.table import register_check


class AutomationsConfig(AppConfig):
    """Registers one system check per setting, what only a deployment needs, and verifications."""

    name = "automations"

    def ready(self) -> None:
        """Register the system checks, and what verify_run_tracking looks at besides tracking."""
        for check in ALL_CHECKS:
            checks.register(check, checks.Tags.compatibility)
        for check in DEPLOY_CHECKS:
            checks.register(check, checks.Tags.security, deploy=True)
        for name, look in CHECKS.items():
            register_check(name, look)
