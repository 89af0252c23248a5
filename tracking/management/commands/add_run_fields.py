"""Add run fields, totals, hours and contacts; safe to repeat and while traffic flows."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import CommandError

from tracking.conf import conf
from tracking.maintenance.backfill import Backfill
from tracking.management.database_command import DRY_RUN, JSON, DatabaseCommand, flag, option
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
# By the names of the report: what is printed, and what is for a dry run.
_LINES = {
    "automations": ("automations read", "automations read"),
    "basesCreated": ("bases created", "bases to create"),
    "totalsRaised": ("totals raised", "totals to raise"),
    "hoursRebuilt": ("hours rebuilt", ""),
    "contactsWritten": ("contacts written", ""),
    "automationsUpdated": ("automations updated", "automations to update"),
}


class Command(DatabaseCommand):
    help = __doc__
    arguments = {
        "--recount": flag("count again where totals exist; a total is raised, never lowered"),
        "--dry-run": DRY_RUN,
        "--batch-size": option("automations a batch (default 200)", type=int, default=200),
        "--json": JSON,
    }

    def run(self, **options: Any) -> None:
        if options["batch_size"] < 1:
            raise CommandError("--batch-size should be 1 or more.")
        database, is_dry = mongo.get_database(), options["dry_run"]
        if not is_dry:
            ensure_collections(database)
            self._ensure_needed_index()
        retention = find_retention(database, conf.retention)
        backfill = Backfill(database, now=datetime.now(UTC), retention=retention)
        step = backfill.preview_batch if is_dry else backfill.run_batch
        report: Counter[str] = Counter()
        total = database["automations"].count_documents({})
        with self.show_progress("automations", total) as advance:
            for batch in backfill.list_batches(options["batch_size"]):
                report += step(batch, recount=options["recount"])
                advance(len(batch))
        if options["json"]:
            self.write_json({"isDryRun": is_dry} | {name: report[name] for name in _LINES})
            return
        if is_dry:
            self.stdout.write("dry run, nothing was changed")
        for name, (done, planned) in _LINES.items():
            if label := planned if is_dry else done:
                self.stdout.write(f"{label}: {report[name]}")
        if is_dry:
            self.stdout.write("automations updated: 0")

    def _ensure_needed_index(self) -> None:
        """Build the one index without which every automation would scan all runs."""
        database = mongo.get_database()
        [index] = [i for i in list_indexes(timedelta(days=90)) if i.name == _NEEDED_INDEX]
        [finding] = compare_indexes(database, [index])
        if finding.state is IndexState.MISSING:
            self.notes.write(f"building index {index.collection}.{index.name} first")
            apply_finding(database, finding)
