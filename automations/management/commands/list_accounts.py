"""`manage.py list_accounts`: every account and its state, never its token."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from automations.accounts.accounts import Account, AccountState, list_accounts
from automations.api.renderers import Json, to_json
from tracking.clock import format_time
from tracking.exceptions import TrackingError

_HEADER = ("ID", "WORKSPACE", "HOST", "TOKEN", "LAST WEBHOOK", "SINCE", "STATE")


class Command(BaseCommand):
    """Lists accounts by id."""

    help = "List accounts with their state."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --workspace."""
        parser.add_argument("--workspace", help="only the accounts of this workspace")

        parser.add_argument("--json", action="store_true", help="print one JSON array")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print a table, or one sentence when there is none."""
        try:
            accounts = list_accounts(options["workspace"])
        except TrackingError as error:
            raise CommandError(str(error)) from None
        if options["json"]:
            self.stdout.write(json.dumps([_build_json(one) for one in accounts], indent=2))
            return
        if not accounts:
            self.stdout.write("There is no account; `add_account <id> --workspace <id>` adds one.")
            return
        rows = [_HEADER, *map(_build_row, accounts)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())


def _build_json(account: Account) -> Json:
    return {
        "id": account.id,
        "workspaceId": account.workspace_id,
        "host": account.host.value,
        "hasToken": account.has_token,
        "lastWebhookAt": to_json(account.last_webhook_at),
        "state": account.state.value,
        "stateReason": account.state_reason,
        "stateAt": to_json(account.state_at),
    }


def _build_row(account: Account) -> tuple[str, ...]:
    times = (account.last_webhook_at, account.state_at)
    shown = ("never" if moment is None else format_time(moment) for moment in times)
    state = account.state.value
    if account.state is not AccountState.ACTIVE and account.state_reason:
        state = f"{state}: {account.state_reason}"
    token = "stored" if account.has_token else "none"
    return (account.id, account.workspace_id, account.host.value, token, *shown, state)
