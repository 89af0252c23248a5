"""What people type out of habit: says what to run instead."""

from __future__ import annotations

from typing import Any

from django.core.management.commands.migrate import Command as SqlMigrate


class Command(SqlMigrate):
    """Takes the place of Django's own `migrate` and, for scripts, its arguments."""

    help = "Says which two commands prepare the database: there is no SQL database to migrate."

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
