"""Handle again what was kept in `webhook_dead_letters`, oldest first."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from automations.deliveries import handle_delivery
from automations.registry import get_dead_letters
from tracking.exceptions import TrackingUnavailable


class Command(BaseCommand):
    """`manage.py replay_dead_letters`: safe to repeat, keeps the original arrival."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--dry-run", action="store_true", help="only list what waits")

    def handle(self, *args: Any, **options: Any) -> None:
        """Replay every waiting letter; what fails again stays."""
        letters = get_dead_letters()
        replayed = kept = 0
        for letter in list(letters.list_waiting()):
            if options["dry_run"]:
                self.stdout.write(f"{letter.arrived_at.isoformat()} {letter.error}")
                kept += 1
                continue
            try:
                summary = handle_delivery(letter.raw, arrived_at=letter.arrived_at)
            except TrackingUnavailable as error:
                raise CommandError(
                    f"MongoDB did not answer ({error}): {replayed} replayed, run it again."
                ) from error
            if summary.dead_letters:
                kept += 1
            else:
                letters.delete_letter(letter.letter_id)
                replayed += 1
        self.stdout.write(f"dead letters replayed: {replayed}")
        self.stdout.write(f"dead letters waiting: {kept}")
