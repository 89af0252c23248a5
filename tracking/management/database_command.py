"""The base of commands that work on the database: their options, output and errors."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from pymongo.errors import OperationFailure, PyMongoError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tracking.exceptions import TrackingError

_LINE_EVERY_SECONDS = 5.0


def option(meaning: str, **more: Any) -> dict[str, Any]:
    return {"help": meaning, **more}


def flag(meaning: str) -> dict[str, Any]:
    return option(meaning, action="store_true")


DRY_RUN = flag("change nothing, say what would")
JSON = flag("print one JSON document")


class DatabaseCommand(BaseCommand):
    """Runs `run`, and says in one sentence what went wrong and what to do.

    `arguments` are argparse's, by name. With `--json`, standard output holds the result alone:
    `notes` is where everything else is written.
    """

    arguments: Mapping[str, Mapping[str, Any]] = {}

    def add_arguments(self, parser: CommandParser) -> None:
        for name, options in self.arguments.items():
            parser.add_argument(name, **options)

    def handle(self, *args: Any, **options: Any) -> None:
        self.notes = self.stderr if options.get("json") else self.stdout
        try:
            self.run(**options)
        except KeyboardInterrupt as error:
            raise CommandError(
                "Interrupted. Nothing is half done: run the command again to finish."
            ) from error
        except OperationFailure as error:
            said = (error.details or {}).get("errmsg", error)
            raise CommandError(
                f"MongoDB refused ({error.code}): {said}. Fix that and run the command again; it "
                "goes on where it stopped."
            ) from error
        except PyMongoError as error:
            raise CommandError(
                f"MongoDB cannot be reached ({type(error).__name__}). Check MONGODB_URI and run "
                "the command again; it goes on where it stopped."
            ) from error
        except TrackingError as error:
            raise CommandError(str(error)) from error

    def run(self, **options: Any) -> None:
        raise NotImplementedError

    def write_json(self, document: Any) -> None:
        self.stdout.write(json.dumps(document, ensure_ascii=False, indent=2))

    def write_table(self, rows: Sequence[Sequence[str]]) -> None:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())

    @contextmanager
    def show_progress(self, label: str, total: int) -> Iterator[Callable[..., None]]:
        """Show how far a command is, a bar on a terminal, else lines.

        The value is called with the units done since the last call, 1 by default.
        """
        console = Console(stderr=True)
        is_plain = not console.is_terminal
        columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True, disable=is_plain) as progress:
            task = progress.add_task(label, total=total)
            written_at = time.monotonic()

            def advance(units: int = 1) -> None:
                nonlocal written_at
                progress.advance(task, units)
                if is_plain and time.monotonic() - written_at >= _LINE_EVERY_SECONDS:
                    written_at = time.monotonic()
                    self.notes.write(f"{label}: {progress.tasks[0].completed:.0f} of {total}")

            yield advance
