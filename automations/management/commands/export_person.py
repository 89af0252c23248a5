"""Write everything that is stored about a person as JSON, to hand it to them."""

from typing import Any

from automations.api.base import OrjsonRenderer
from automations.management.commands.erase_person import PERSON
from automations.privacy.erasure import export_person
from tracking.management.database_command import DatabaseCommand


class Command(DatabaseCommand):
    help = __doc__
    arguments = PERSON

    def run(self, **options: Any) -> None:
        account_id = None if options["account"] == "all" else options["account"]
        found = export_person(account_id, options["person"])
        document = {"account": account_id, "person": options["person"], **found}
        text = OrjsonRenderer().render(document, renderer_context={"indent": 2})
        self.stdout.write(text.decode())
