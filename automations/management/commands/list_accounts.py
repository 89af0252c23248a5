"""`manage.py list_accounts`: every account and its state, never its token."""

from collections.abc import Iterator, Mapping
from typing import Any

from automations.accounts.accounts import AccountState, list_accounts
from automations.api.base import to_json
from automations.management.listing import ListCommand


class Command(ListCommand):
    help = "List accounts with their state."
    header = ("ID", "WORKSPACE", "HOST", "TOKEN", "LAST WEBHOOK", "SINCE", "STATE")
    hint_when_empty = "There is no account; `add_account <id> --workspace <id>` adds one."

    def list_items(self, workspace_id: str | None) -> Iterator[dict[str, Any]]:
        for account in list_accounts(workspace_id):
            yield {
                "id": account.id,
                "workspaceId": account.workspace_id,
                "host": account.host.value,
                "hasToken": account.has_token,
                "lastWebhookAt": to_json(account.last_webhook_at),
                "state": account.state.value,
                "stateReason": account.state_reason,
                "stateAt": to_json(account.state_at),
            }

    def build_row(self, item: Mapping[str, Any]) -> tuple[str, ...]:
        state, reason = item["state"], item["stateReason"]
        token = "stored" if item["hasToken"] else "none"
        times = item["lastWebhookAt"] or "never", item["stateAt"] or "never"
        state = f"{state}: {reason}" if reason and state != AccountState.ACTIVE.value else state
        return item["id"], item["workspaceId"], item["host"], token, *times, state
