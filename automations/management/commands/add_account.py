"""`manage.py add_account <id> --workspace <wsid>`: an account that may send, and its token."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from automations.accounts.accounts import AccountTaken, add_account, list_other_workspaces
from automations.accounts.encryption import EncryptionKeyMissing
from automations.instagram.access_tokens import Host
from tracking.clock import read_now
from tracking.exceptions import TrackingError

_HOSTS = {"instagram": Host.INSTAGRAM, "facebook": Host.FACEBOOK}


class Command(BaseCommand):
    """Stores an account with its token; never takes the token as an argument, which `ps` shows."""

    help = "Add an Instagram account, or give it a new token, and set it active."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("account", help="the id of the Instagram professional account")
        parser.add_argument("--workspace", required=True, help="the workspace it belongs to")
        parser.add_argument(
            "--host",
            choices=sorted(_HOSTS),
            default="instagram",
            help="the login its token comes from (default instagram)",
        )
        parser.add_argument(
            "--token-file",
            type=Path,
            help="a file that holds the token; without one it is asked for, or read from stdin",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        token = _read_token(options["token_file"])
        try:
            # Read before anything is stored, because an error says that nothing was.
            others = list_other_workspaces(options["account"], options["workspace"])
            add_account(
                options["account"],
                workspace_id=options["workspace"],
                token=token,
                host=_HOSTS[options["host"]],
                at=read_now(),
            )
        except (ValueError, AccountTaken, EncryptionKeyMissing, TrackingError) as error:
            raise CommandError(f"Nothing was stored. {error}") from None
        self.stdout.write(
            f"Account {options['account']} of workspace {options['workspace']} is active; "
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
