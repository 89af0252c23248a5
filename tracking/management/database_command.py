"""The base of commands that work on the database: a clear sentence instead of a traceback."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from pymongo.errors import OperationFailure, PyMongoError

from tracking.exceptions import TrackingError


class DatabaseCommand(BaseCommand):
    """Runs `run`, and says in one sentence what went wrong and what to do."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command."""
        try:
            self.run(**options)
        except KeyboardInterrupt as error:
            raise CommandError(
                "Interrupted. Nothing is half done: run the command again to finish."
            ) from error
        except OperationFailure as error:
            raise CommandError(
                f"MongoDB refused ({error.code}): {error.details or error}. Mend that and run the "
                "command again; it goes on where it stopped."
            ) from error
        except PyMongoError as error:
            raise CommandError(
                f"MongoDB cannot be reached ({type(error).__name__}). Check MONGODB_URI and run "
                "the command again; it goes on where it stopped."
            ) from error
        except TrackingError as error:
            raise CommandError(str(error)) from error

    def run(self, **options: Any) -> None:
        """Do the work."""
        raise NotImplementedError
