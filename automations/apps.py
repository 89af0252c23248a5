"""Django's entry into the app."""

from django.apps import AppConfig
from django.core import checks

from automations.checks import check_deployment, check_settings
from automations.operations.verification import CHECKS
from tracking.maintenance.verification.table import register_check


class AutomationsConfig(AppConfig):
    """Registers the system checks, and what verify_run_tracking looks at besides tracking."""

    name = "automations"

    def ready(self) -> None:
        checks.register(check_settings, checks.Tags.compatibility)
        checks.register(check_deployment, checks.Tags.security, deploy=True)
        for name, look in CHECKS.items():
            register_check(name, look)
