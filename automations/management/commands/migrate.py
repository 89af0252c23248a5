"""Says what to run instead, because people type `migrate` out of habit."""

from typing import Any

from django.core.management.commands.migrate import Command as SqlMigrate


class Command(SqlMigrate):
    """Accepts the arguments of Django's own `migrate`, for scripts."""

    help = "Says which two commands prepare the database: there is no SQL database to migrate."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(
            "There is no SQL database here, so nothing was migrated. Prepare MongoDB with:\n"
            "\n"
            "    python manage.py add_run_fields\n"
            "    python manage.py add_run_indexes\n"
            "\n"
            "Both are safe to repeat, even under traffic."
        )
