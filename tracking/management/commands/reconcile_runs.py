"""Show where counts differ from the runs, and repair it; take in what an older product counted."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser

from tracking.conf import conf
from tracking.maintenance.reconciliation import Reconciler, Repair
from tracking.management.database_command import DatabaseCommand
from tracking.management.progress import show_progress
from tracking.mongo import client as mongo
from tracking.mongo.indexes import ensure_collections


class Command(DatabaseCommand):
    """`manage.py reconcile_runs`: safe to repeat, to interrupt, and while traffic flows."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--dry-run", action="store_true", help="change nothing, show what would"
        )
        parser.add_argument(
            "--adopt", action="store_true",
            help="after an older product has counted on this database: what its totals have beyond "
            "its runs is kept as the base; a total only rises",
        )  # fmt: skip

    def run(self, **options: Any) -> None:
        """Show everything that differs, then repair it."""
        database = mongo.get_database()
        is_dry = options["dry_run"]
        if not is_dry:
            ensure_collections(database)
        reconciler = Reconciler(
            database, now=datetime.now(UTC), retention=conf.retention, is_adopting=options["adopt"]
        )
        keys = reconciler.list_automations()
        found = self._go_through("automations compared", keys, reconciler.preview)
        self._print(found)
        if is_dry:
            self.stdout.write("dry run, nothing was changed")
        elif found:
            wrong = {one.automation_id: keys[one.automation_id] for one in found}
            self._go_through("automations repaired", wrong, reconciler.repair)
        automations = len({one.automation_id for one in found})
        verb = "to repair" if is_dry else "repaired"
        self.stdout.write(f"automations compared: {len(keys)}")
        self.stdout.write(f"automations {verb}: {automations}")
        if any(one.needs_adopting for one in found):
            raise CommandError(
                "Another product has counted here: its totals are left alone. Run "
                "'python manage.py reconcile_runs --adopt' to take them in."
            )

    def _go_through(
        self, label: str, keys: dict[str, Any], step: Callable[[str, Any], list[Repair]]
    ) -> list[Repair]:
        found: list[Repair] = []
        with show_progress(label, len(keys), self.stdout) as advance:
            for automation_id, key in keys.items():
                found += step(automation_id, key)
                advance(1)
        return found

    def _print(self, found: list[Repair]) -> None:
        if not found:
            self.stdout.write("nothing differs")
            return
        rows = [("AUTOMATION", "WHAT", "IS", "SHOULD BE")]
        rows += [(one.automation_id, one.what, one.stored, one.wanted) for one in found]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())
