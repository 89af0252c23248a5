"""`manage.py rotate_encryption_keys`: every stored access token under the newest key."""

from typing import Any

from django.core.management.base import CommandError

from automations.accounts.accounts import rotate_tokens
from automations.accounts.encryption import EncryptionKeyMissing
from tracking.management.database_command import DatabaseCommand


class Command(DatabaseCommand):
    help = (
        "Encrypt every stored access token with the first key of FIELD_ENCRYPTION_KEYS; safe to "
        "repeat and while messages are sent. When it says so, the other keys can go."
    )

    def run(self, **options: Any) -> None:
        try:
            rotation = rotate_tokens()
        except EncryptionKeyMissing as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"tokens encrypted with the first key: {rotation.rotated}")
        if rotation.unreadable:
            raise CommandError(
                f"No key reads the tokens of {', '.join(rotation.unreadable)}: append the key that "
                "encrypted them to the others, or store each again with `add_account`."
            )
        self.stdout.write("The first key alone is enough now; the others can go.")
