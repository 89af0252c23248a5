"""Add run fields, totals, hour rollups and contacts to a database that has automations already."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from django.core.management.base import CommandError, CommandParser, OutputWrapper

from tracking.conf import conf
from tracking.maintenance.backfill import Backfill, BackfillReport
from tracking.management.database_command import DatabaseCommand
from tracking.management.progress import show_progress
from tracking.mongo import client as mongo
from tracking.mongo.indexes import (
    IndexState,
    apply_finding,
    compare_indexes,
    ensure_collections,
    find_retention,
    list_indexes,
)

_NEEDED_INDEX = "automationId_createdAt"


class Command(DatabaseCommand):
    """`manage.py add_run_fields`: safe to repeat, to interrupt, and while traffic flows."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--recount", action="store_true",
            help="count again where totals exist; a total is raised, never lowered",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="change nothing, say what would")
        parser.add_argument(
            "--batch-size", type=int, default=200, help="automations a batch (default 200)"
        )

        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def run(self, **options: Any) -> None:
        """Go through all automations, batch by batch."""
        if options["batch_size"] < 1:
            raise CommandError("--batch-size should be 1 or more.")
        database = mongo.get_database()
        is_dry = options["dry_run"]
        # What a script reads holds the result alone.
        notes = self.stderr if options["json"] else self.stdout
        if not is_dry:
            ensure_collections(database)
            self._ensure_needed_index(notes)
        retention = find_retention(database, conf.retention)
        backfill = Backfill(database, now=datetime.now(UTC), retention=retention)
        step = backfill.preview_batch if is_dry else backfill.run_batch
        report = BackfillReport()
        total = backfill.count_automations()
        with show_progress("automations", total, notes) as advance:
            for batch in backfill.list_batches(options["batch_size"]):
                report.add(step(batch, recount=options["recount"]))
                advance(len(batch))
        if options["json"]:
            fields = msgspec.to_builtins(report)
            self.stdout.write(json.dumps({"isDryRun": is_dry} | fields, indent=2))
        else:
            self._print(report, is_dry=is_dry)

    def _ensure_needed_index(self, notes: OutputWrapper) -> None:
        """Build the one index without which every automation would scan all runs."""
        database = mongo.get_database()
        [index] = [i for i in list_indexes(timedelta(days=90)) if i.name == _NEEDED_INDEX]
        [finding] = compare_indexes(database, [index])
        if finding.state is IndexState.MISSING:
            notes.write(f"building index {index.collection}.{index.name} first")
            apply_finding(database, finding)

    def _print(self, report: BackfillReport, *, is_dry: bool) -> None:
        lines = {
            "automations read": report.automations,
            "bases created": report.bases_created,
            "totals raised": report.totals_raised,
            "hours rebuilt": report.hours_rebuilt,
            "contacts written": report.contacts_written,
        }
        if is_dry:
            self.stdout.write("dry run, nothing was changed")
            lines = {
                "automations read": report.automations,
                "bases to create": report.bases_created,
                "totals to raise": report.totals_raised,
                "automations to update": report.automations_updated,
            }
        for name, count in lines.items():
            self.stdout.write(f"{name}: {count}")
        self.stdout.write(f"automations updated: {0 if is_dry else report.automations_updated}")
