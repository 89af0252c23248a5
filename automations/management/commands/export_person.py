"""Write everything that is stored about a person as JSON, to hand it to them."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from automations.api.renderers import OrjsonRenderer
from automations.privacy.erasure import export_person
from tracking.management.database_command import DatabaseCommand


class Command(DatabaseCommand):
    """`manage.py export_person <account> <person>`: reads only."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("account", help="the account that the person wrote to, or `all`")
        parser.add_argument("person", help="the person's id, as in `userId`")

    def run(self, **options: Any) -> None:
        account_id = None if options["account"] == "all" else options["account"]
        found = export_person(account_id, options["person"])
        document = {"account": account_id, "person": options["person"], **found}
        text = OrjsonRenderer().render(document, renderer_context={"indent": 2})
        self.stdout.write(text.decode())
