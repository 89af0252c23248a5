"""Write runs as CSV or as JSON lines, newest first, with the filters of the API."""

from collections.abc import Iterator, Mapping
from itertools import count
from operator import itemgetter
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from rest_framework.exceptions import ValidationError

from automations.api.base import OrjsonRenderer
from automations.api.errors import build_error
from automations.api.query_parameters import OUTCOMES, RunFilterQuery, build_filter
from automations.api.runs import build_run, write_csv
from tracking import reports
from tracking.clock import read_now
from tracking.management.database_command import DatabaseCommand, flag, option
from tracking.queries.run_filters import STEPS, RunFilter

# By the API's names, which an error message repeats.
_FILTERS = ("triggerType", "outcome", "userId", "postId", "from", "to", "zone")


class Command(DatabaseCommand):
    help = __doc__
    arguments = {
        "--workspace": option("whose runs", metavar="ID", required=True),
        "--automation": option("of this automation only", metavar="ID"),
        "--type": option(f"one of {', '.join(STEPS)}", dest="triggerType", metavar="STEP"),
        "--outcome": option(
            f"of any step ({', '.join(OUTCOMES[:4])}, …) or of one (main_dm.sent, …)"
        ),
        "--person": option("of this person only", dest="userId", metavar="ID"),
        "--post": option("of this post only", dest="postId", metavar="ID"),
        "--from": option("2026-11-23, or a time like 2026-11-23T10:30:00Z", metavar="TIME"),
        "--to": option("up to, and without, this time or day", metavar="TIME"),
        "--zone": option("the zone of those days, like Asia/Kolkata (UTC)", metavar="NAME"),
        "--json": flag("a JSON object per line instead of CSV"),
        "--output": option(
            "write here; the file appears when it is complete (standard output)",
            type=Path,
            metavar="FILE",
        ),
    }

    def run(self, **options: Any) -> None:
        wanted = parse_filter(options)
        numbers = count()
        runs = map(itemgetter(0), zip(reports.iterate_runs(wanted), numbers, strict=False))
        render = OrjsonRenderer().render
        lines = (render(build_run(run)) + b"\n" for run in runs)
        pieces = lines if options["json"] else write_csv(runs)
        if options["output"] is None:
            for piece in pieces:
                self.stdout.write(piece.decode(), ending="")
        else:
            self._write_file(options["output"], pieces)
        self.stderr.write(f"runs exported: {next(numbers)}")

    def _write_file(self, path: Path, pieces: Iterator[bytes]) -> None:
        unfinished = path.with_name(f"{path.name}.part")
        try:
            with unfinished.open("wb") as file:
                file.writelines(pieces)
            unfinished.replace(path)
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}.") from error
        finally:
            unfinished.unlink(missing_ok=True)


def parse_filter(options: Mapping[str, Any]) -> RunFilter:
    """Return which runs are asked for. Raises CommandError for what the API would refuse."""
    named = {name: options[name] for name in _FILTERS if options[name] is not None}
    # Runs counted during the export would be in it only by chance.
    named.setdefault("to", read_now().isoformat())
    query = RunFilterQuery(data=named)
    try:
        query.is_valid(raise_exception=True)
    except ValidationError as error:
        fact = build_error(error)
        raise CommandError(f"{fact['field']}: {fact['message']}") from error
    return build_filter(query.validated_data, options["workspace"], options["automation"])
