"""`manage.py create_api_token --workspace <wsid>`: a token, printed alone on the last line."""

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError

from automations.auth.tokens import SCOPES, WRITE, create_token
from tracking.clock import read_now
from tracking.management.database_command import DatabaseCommand, option

_MOST_DAYS = 3650


class Command(DatabaseCommand):
    help = "Create an API token for a workspace and print it alone on the last line."
    arguments = {
        "--workspace": option("the workspace it opens", required=True),
        "--name": option("what it is for", default=""),
        "--scope": option("what it may do (default write)", choices=SCOPES, default=WRITE),
        "--days": option("how long it is valid (1 to 3650, default 365)", type=int, default=365),
    }

    def run(self, **options: Any) -> None:
        days: int = options["days"]
        if not 1 <= days <= _MOST_DAYS:
            raise CommandError(f"--days is {days}; it should be 1 to {_MOST_DAYS}.")
        at = read_now()
        ends = at + timedelta(days=days)
        try:
            secret, token = create_token(
                workspace_id=options["workspace"],
                name=options["name"],
                at=at,
                expires_at=ends,
                scope=options["scope"],
            )
        except ValueError as error:
            raise CommandError(f"--workspace: {error}") from None
        self.stdout.write(
            f"Token {token.id} for workspace {token.workspace_id}, scope {token.scope}, valid for "
            f"{days} days; it is shown only here:"
        )
        self.stdout.write(secret)
