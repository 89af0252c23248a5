"""Erase a person: the counts stay, the id and the texts go."""

from typing import Any

from automations.privacy.erasure import erase_person, preview_erasure
from tracking.clock import read_now
from tracking.management.database_command import DatabaseCommand, flag, option

PERSON = {
    "account": option("the account that the person wrote to, or `all`"),
    "person": option("the person's id, as in `userId`"),
}


class Command(DatabaseCommand):
    help = (
        "Erase a person from every collection; safe to repeat. Their runs stay counted without a "
        "link to the person; queued messages are dropped. If they write again, they are a new "
        "person."
    )
    arguments = {**PERSON, "--dry-run": flag("only count what there is")}

    def run(self, **options: Any) -> None:
        account_id = None if options["account"] == "all" else options["account"]
        if options["dry_run"]:
            found = preview_erasure(account_id, options["person"])
            self.stdout.write("dry run, nothing was changed")
        else:
            found = erase_person(account_id, options["person"], at=read_now())
        for name in ("runs", "contacts", "triggers"):
            self.stdout.write(f"{name} made anonymous: {found.documents[name]}")
        self.stdout.write(f"dead letters cleared: {found.dead_letters}")
