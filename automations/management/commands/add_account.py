"""`manage.py add_account <id> --workspace <wsid>`: an account that may send, and its token."""

import getpass
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from automations.accounts.accounts import AccountTaken, add_account, list_other_workspaces
from automations.accounts.encryption import EncryptionKeyMissing
from automations.instagram.access_tokens import Host
from tracking.clock import read_now
from tracking.exceptions import TrackingError
from tracking.management.database_command import DatabaseCommand, option


class Command(DatabaseCommand):
    """Never takes the token as an argument, which `ps` shows."""

    help = "Add an Instagram account, or give it a new token, and set it active."
    arguments = {
        "account": option("the id of the Instagram professional account"),
        "--workspace": option("the workspace it belongs to", required=True),
        "--host": option(
            "the login its token comes from (default instagram)",
            choices=("facebook", "instagram"),
            default="instagram",
        ),
        "--token-file": option(
            "a file that holds the token; without one it is asked for, or read from stdin",
            type=Path,
        ),
    }

    def run(self, **options: Any) -> None:
        account_id, workspace_id = options["account"], options["workspace"]
        token = _read_token(options["token_file"])
        try:
            # Read before anything is stored, because an error says that nothing was.
            others = list_other_workspaces(account_id, workspace_id)
            host = Host[options["host"].upper()]
            add_account(
                account_id, workspace_id=workspace_id, token=token, host=host, at=read_now()
            )
        except (ValueError, AccountTaken, EncryptionKeyMissing, TrackingError) as error:
            raise CommandError(f"Nothing was stored. {error}") from None
        self.stdout.write(
            f"Account {account_id} of workspace {workspace_id} is active; "
            "its token is stored encrypted."
        )
        if others:
            self.stderr.write(
                f"Automations of other workspaces ({', '.join(others)}) name this account: they no "
                "longer answer or count anything."
            )


def _read_token(path: Path | None) -> str:
    if path is not None:
        try:
            return path.read_text().strip()
        except (OSError, UnicodeError) as error:
            # The name stays out of it, because it may be the token itself.
            raise CommandError(
                f"--token-file cannot be read: {type(error).__name__}. It is the path of a file; "
                "a token is no argument."
            ) from None
    if sys.stdin.isatty():
        return getpass.getpass("Access token (not shown): ").strip()
    return sys.stdin.readline().strip()
