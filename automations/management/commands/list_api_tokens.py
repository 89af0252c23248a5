"""`manage.py list_api_tokens`: every token, oldest first, never its secret."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from automations.api.base import to_json
from automations.auth.tokens import ApiToken, list_tokens
from automations.management.listing import ListCommand
from tracking.clock import read_now


class Command(ListCommand):
    help = "List API tokens with their state."
    header = ("ID", "WORKSPACE", "NAME", "SCOPE", "CREATED", "EXPIRES", "LAST USED", "STATE")
    hint_when_empty = "There is no token; `create_api_token --workspace <id>` creates one."

    def list_items(self, workspace_id: str | None) -> Iterator[dict[str, Any]]:
        at = read_now()
        for token in list_tokens(workspace_id):
            yield {
                "id": token.id,
                "workspaceId": token.workspace_id,
                "name": token.name,
                "scope": token.scope,
                "createdAt": to_json(token.created_at),
                "expiresAt": to_json(token.expires_at),
                "lastUsedAt": to_json(token.last_used_at),
                "state": _name_state(token, at),
            }

    def build_row(self, item: Mapping[str, Any]) -> tuple[str, ...]:
        times = (item["createdAt"], item["expiresAt"], item["lastUsedAt"])
        shown = (moment or "never" for moment in times)
        head = (item["id"], item["workspaceId"], item["name"] or "-", item["scope"])
        return (*head, *shown, item["state"])


def _name_state(token: ApiToken, at: datetime) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "usable" if token.is_usable(at) else "expired"
