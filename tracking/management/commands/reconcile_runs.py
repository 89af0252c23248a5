"""Show where counts differ from the runs and repair it; safe to repeat and under traffic."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import CommandError

from tracking.conf import conf
from tracking.maintenance.reconciliation import Reconciler, Repair
from tracking.management.database_command import DRY_RUN, DatabaseCommand, flag
from tracking.mongo import client as mongo
from tracking.mongo.indexes import ensure_collections


class Command(DatabaseCommand):
    help = __doc__
    arguments = {
        "--dry-run": DRY_RUN,
        "--adopt": flag(
            "after an older product has counted on this database: what its totals have beyond "
            "its runs is kept as the base; a total only rises"
        ),
    }

    def run(self, **options: Any) -> None:
        database, is_dry = mongo.get_database(), options["dry_run"]
        if not is_dry:
            ensure_collections(database)
        reconciler = Reconciler(
            database, now=datetime.now(UTC), retention=conf.retention, is_adopting=options["adopt"]
        )
        keys = reconciler.list_automations()
        found = self._go_through("automations compared", keys, reconciler.preview)
        if found:
            rows = [(one.automation_id, one.what, one.stored, one.wanted) for one in found]
            self.write_table([("AUTOMATION", "WHAT", "IS", "SHOULD BE"), *rows])
        else:
            self.stdout.write("nothing differs")
        wrong = {one.automation_id: keys[one.automation_id] for one in found}
        if is_dry:
            self.stdout.write("dry run, nothing was changed")
        elif found:
            self._go_through("automations repaired", wrong, reconciler.repair)
        self.stdout.write(f"automations compared: {len(keys)}")
        self.stdout.write(f"automations {'to repair' if is_dry else 'repaired'}: {len(wrong)}")
        if any(one.needs_adopting for one in found):
            raise CommandError(
                "Another product has counted here: its totals are left alone. Run "
                "'python manage.py reconcile_runs --adopt' to take them in."
            )

    def _go_through(
        self, label: str, keys: dict[str, Any], step: Callable[[str, Any], list[Repair]]
    ) -> list[Repair]:
        found: list[Repair] = []
        with self.show_progress(label, len(keys)) as advance:
            for automation_id, key in keys.items():
                found += step(automation_id, key)
                advance()
        return found
