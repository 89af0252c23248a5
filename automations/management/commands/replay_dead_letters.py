"""Handle dead letters again, oldest first, at their original arrival; list or discard them."""

from collections import Counter
from typing import Any

from django.core.management.base import CommandError, CommandParser

from automations.webhook import dead_letters
from automations.webhook.deliveries import handle_delivery
from tracking.clock import format_time, read_now
from tracking.exceptions import TrackingError
from tracking.management.database_command import DatabaseCommand


class Command(DatabaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        one_of = parser.add_mutually_exclusive_group()
        one_of.add_argument(
            "--list",
            "--dry-run",
            action="store_true",
            dest="is_listing",
            help="only list what waits: id, arrival, age, size and error, never the content",
        )
        one_of.add_argument("--discard", metavar="ID", help="delete the letter of this id for good")

    def run(self, **options: Any) -> None:
        if options["is_listing"]:
            self._list()
        elif options["discard"]:
            self._discard(options["discard"])
        else:
            self._replay()

    def _list(self) -> None:
        now = read_now()
        letters = dead_letters.list_waiting()
        for letter in letters:
            hours = (now - letter.arrived_at).total_seconds() / 3600
            self.stdout.write(
                f"{letter.letter_id} {format_time(letter.arrived_at)} {hours:.1f} h old, "
                f"{letter.size} bytes, received {letter.received} x: {letter.error}"
            )
        self.stdout.write(f"dead letters waiting: {len(letters)}")

    def _discard(self, letter_id: str) -> None:
        if not dead_letters.delete_letter(letter_id):
            raise CommandError(f"There is no dead letter {letter_id}; --list shows their ids.")
        self.stdout.write(f"dead letter discarded: {letter_id}")

    def _replay(self) -> None:
        replayed = kept = 0
        outcomes: Counter[str] = Counter()
        try:
            for letter_id in dead_letters.list_ids(dead_letters.WAITING):
                letter = dead_letters.find_letter(letter_id)
                if letter is None:
                    continue  # another replay was faster
                summary = handle_delivery(letter.raw, arrived_at=letter.arrived_at)
                outcomes += summary.outcomes
                if summary.dead_letters:
                    kept += 1
                else:
                    dead_letters.delete_letter(letter_id)
                    replayed += 1
        except TrackingError as error:
            raise CommandError(
                f"MongoDB did not answer ({error}): {replayed} replayed, run it again."
            ) from error
        # A counter takes them, with their first arrival.
        self.stdout.write(
            f"triggers stored: {outcomes['stored']}, stored before: {outcomes['redelivered']}"
        )
        self.stdout.write(f"dead letters replayed: {replayed}")
        self.stdout.write(f"dead letters waiting: {kept}")
