"""Erase a person: the counts stay, the id and the texts go."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from automations.privacy.erasure import erase_person, preview_erasure
from tracking.clock import read_now
from tracking.management.database_command import DatabaseCommand


class Command(DatabaseCommand):
    """`manage.py erase_person <account> <person>`: safe to repeat, and under traffic."""

    help = (
        "Erase a person from every collection. Runs stay and are counted, without a link to the "
        "person; sends that wait are dropped. Who writes again is a new person."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("account", help="the account that the person wrote to, or `all`")
        parser.add_argument("person", help="the person's id, as in `userId`")
        parser.add_argument("--dry-run", action="store_true", help="only say what there is")

    def run(self, **options: Any) -> None:
        """Erase."""
        account_id = None if options["account"] == "all" else options["account"]
        person_id = options["person"]
        if options["dry_run"]:
            found = preview_erasure(account_id, person_id)
            self.stdout.write("dry run, nothing was changed")
        else:
            at = read_now()
            found = erase_person(account_id, person_id, at=at)
        self.stdout.write(f"runs made anonymous: {found.documents.runs}")
        self.stdout.write(f"contacts made anonymous: {found.documents.contacts}")
        self.stdout.write(f"triggers made anonymous: {found.documents.triggers}")
        self.stdout.write(f"dead letters cleared: {found.dead_letters}")
