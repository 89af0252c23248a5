"""Handle again what was kept in `webhook_dead_letters`, oldest first."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from automations.deliveries import handle_delivery
from automations.registry import get_dead_letters
from tracking.exceptions import TrackingError


class Command(BaseCommand):
    """`manage.py replay_dead_letters`: safe to repeat, keeps the original arrival."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--dry-run", action="store_true", help="only list what waits")

    def handle(self, *args: Any, **options: Any) -> None:
        """Replay every waiting letter; what fails again stays."""
        replayed = kept = 0
        try:
            letters = get_dead_letters()
            for letter_id in letters.list_waiting_ids():
                letter = letters.find_letter(letter_id)
                if letter is None:
                    continue  # another replay was faster
                if options["dry_run"]:
                    self.stdout.write(f"{letter.arrived_at.isoformat()} {letter.error}")
                    kept += 1
                elif handle_delivery(letter.raw, arrived_at=letter.arrived_at).dead_letters:
                    kept += 1
                else:
                    letters.delete_letter(letter_id)
                    replayed += 1
        except TrackingError as error:
            raise CommandError(
                f"MongoDB did not answer ({error}): {replayed} replayed, run it again."
            ) from error
        self.stdout.write(f"dead letters replayed: {replayed}")
        self.stdout.write(f"dead letters waiting: {kept}")
