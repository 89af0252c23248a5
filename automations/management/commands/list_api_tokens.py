"""`manage.py list_api_tokens`: every token, never its secret."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from automations.api.renderers import Json, to_json
from automations.auth.tokens import ApiToken, list_tokens
from tracking.clock import format_time, read_now
from tracking.exceptions import TrackingError

_HEADER = ("ID", "WORKSPACE", "NAME", "CREATED", "EXPIRES", "LAST USED", "STATE")


class Command(BaseCommand):
    """Lists API tokens, oldest first."""

    help = "List API tokens with their state."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --workspace."""
        parser.add_argument("--workspace", help="only the tokens of this workspace")

        parser.add_argument("--json", action="store_true", help="print one JSON array")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print a table, or one sentence when there is none."""
        try:
            tokens = list_tokens(options["workspace"])
        except TrackingError as error:
            raise CommandError(str(error)) from None
        at = read_now()
        if options["json"]:
            self.stdout.write(json.dumps([_build_json(one, at) for one in tokens], indent=2))
            return
        if not tokens:
            self.stdout.write("There is no token; `create_api_token --workspace <id>` makes one.")
            return
        rows = [_HEADER, *(_build_row(token, at) for token in tokens)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())


def _build_json(token: ApiToken, at: datetime) -> Json:
    return {
        "id": token.id,
        "workspaceId": token.workspace_id,
        "name": token.name,
        "createdAt": to_json(token.created_at),
        "expiresAt": to_json(token.expires_at),
        "lastUsedAt": to_json(token.last_used_at),
        "state": _name_state(token, at),
    }


def _build_row(token: ApiToken, at: datetime) -> tuple[str, ...]:
    times = (token.created_at, token.expires_at, token.last_used_at)
    shown = ("never" if moment is None else format_time(moment) for moment in times)
    return (token.id, token.workspace_id, token.name or "-", *shown, _name_state(token, at))


def _name_state(token: ApiToken, at: datetime) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "usable" if token.is_usable(at) else "expired"
