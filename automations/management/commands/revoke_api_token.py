"""`manage.py revoke_api_token <id or token>`: revokes a token and ends its sessions."""

from typing import Any

from django.core.management.base import CommandError

from automations.auth.tokens import revoke_token
from tracking.clock import format_time, read_now
from tracking.management.database_command import DatabaseCommand, option


class Command(DatabaseCommand):
    help = "Revoke an API token; sessions opened with it end too."
    arguments = {"token": option("its id (see list_api_tokens), or the token itself")}

    def run(self, **options: Any) -> None:
        token = revoke_token(options["token"].strip(), at=read_now())
        if token is None or token.revoked_at is None:
            raise CommandError("There is no such token; `list_api_tokens` lists the ids.")
        self.stdout.write(
            f"Token {token.id} of workspace {token.workspace_id} is revoked since "
            f"{format_time(token.revoked_at)}."
        )
