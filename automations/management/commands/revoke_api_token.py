"""`manage.py revoke_api_token <id or token>`: from now on it opens nothing."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from automations.auth.tokens import revoke_token
from tracking.clock import format_time, read_now
from tracking.exceptions import TrackingError


class Command(BaseCommand):
    """Revokes an API token, which also ends the sessions opened with it."""

    help = "Revoke an API token; sessions opened with it end too."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the token."""
        parser.add_argument("token", help="its id (see list_api_tokens), or the token itself")

    def handle(self, *args: Any, **options: Any) -> None:
        """Revoke it and say since when."""
        try:
            token = revoke_token(options["token"].strip(), at=read_now())
        except TrackingError as error:
            raise CommandError(f"Nothing was revoked. {error}") from None
        if token is None or token.revoked_at is None:
            raise CommandError("There is no such token; `list_api_tokens` lists the ids.")
        self.stdout.write(
            f"Token {token.id} of workspace {token.workspace_id} is revoked since "
            f"{format_time(token.revoked_at)}."
        )
