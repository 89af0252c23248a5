"""What people type out of habit: says what to run instead."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    """Takes the place of Django's own `migrate`, which needs an SQL database."""

    help = "Says which two commands prepare the database: there is no SQL database to migrate."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Accept what scripts pass to Django's command, and ignore it."""
        parser.add_argument("ignored", nargs="*")
        parser.add_argument("--noinput", "--no-input", action="store_true")
        parser.add_argument("--run-syncdb", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the two commands; nothing is changed."""
        self.stdout.write(
            "There is no SQL database here, so nothing was migrated. Prepare MongoDB with:\n"
            "\n"
            "    python manage.py add_run_fields\n"
            "    python manage.py add_run_indexes\n"
            "\n"
            "Both are safe to repeat, also while traffic flows."
        )
