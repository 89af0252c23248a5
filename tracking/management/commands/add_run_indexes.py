"""Create the named indexes and the TTL; safe to repeat, and nothing is ever dropped."""

from datetime import UTC, datetime
from typing import Any

from django.core.management.base import CommandError

from tracking.conf import conf
from tracking.ids import name_id
from tracking.management.database_command import JSON, DatabaseCommand, flag
from tracking.mongo import client as mongo
from tracking.mongo.indexes import (
    IndexFinding,
    IndexState,
    apply_finding,
    compare_indexes,
    count_expired,
    ensure_collections,
    list_indexes,
    list_obstacles,
)
from tracking.rollups.totals import TotalStore

_CHANGED = (IndexState.MISSING, IndexState.TTL_DIFFERS)
# What is printed of each, and what is in a dry run.
_LABELS = {
    IndexState.PRESENT: ("present", "present"),
    IndexState.MISSING: ("created", "would create"),
    IndexState.TTL_DIFFERS: ("changed TTL of", "would change TTL of"),
    IndexState.KEY_DIFFERS: ("DIFFERS", "DIFFERS"),
}


class Command(DatabaseCommand):
    help = __doc__
    arguments = {
        "--dry-run": flag(
            "change nothing; say what would be created and how many documents the TTL deletes"
        ),
        "--keep-forever": flag("no TTL on runs and contacts"),
        "--json": JSON,
    }

    def run(self, **options: Any) -> None:
        database, is_dry = mongo.get_database(), options["dry_run"]
        if not is_dry:
            ensure_collections(database, is_strict=False)
        if options["keep_forever"]:
            self._report_kept_ttl()
        retention = None if options["keep_forever"] else conf.retention
        findings = compare_indexes(database, list_indexes(retention))
        early = [one for one in findings if self._is_too_early(one)]
        orders = [_build_order(one) for one in early]
        if is_dry:
            for order in orders:
                self.notes.write(order)
            orders = []
        else:
            findings = [one for one in findings if one not in early]
        with self.show_progress("indexes", len(findings)) as advance:
            for finding in findings:
                self._handle(finding, is_dry=is_dry)
                advance()
        changed = sum(one.state in _CHANGED for one in findings)
        blocked = [one for one in findings if one.state is IndexState.KEY_DIFFERS]
        verb = "to create or change" if is_dry else "created or changed"
        self.notes.write(f"indexes present: {len(findings) - changed - len(blocked)}")
        self.notes.write(f"indexes {verb}: {changed}")
        problems = [_build_fix(finding) for finding in blocked] + orders
        problems += [f"{name} {what}." for name, what in list_obstacles(database).items()]
        if options["json"]:
            # `state` is what it was before anything was changed.
            states = [
                {"collection": one.index.collection, "name": one.index.name, "state": one.state}
                for one in findings
            ]
            self.write_json({"isDryRun": is_dry, "indexes": states, "problems": problems})
        if problems:
            raise CommandError("\n".join(problems))

    def _is_too_early(self, finding: IndexFinding) -> bool:
        """Return whether the TTL would delete runs that no total holds yet."""
        index = finding.index
        if index.collection != "automation_runs" or index.expire_after is None:
            return False
        if finding.state not in _CHANGED:
            return False
        database = mongo.get_database()
        oldest = datetime.now(UTC) - index.expire_after
        ids = database["automation_runs"].distinct("automationId", {"createdAt": {"$lt": oldest}})
        totals = TotalStore(database)
        known = totals.find_existing(map(name_id, ids))
        return bool(known.keys() - totals.find_bases(known).keys())

    def _handle(self, finding: IndexFinding, *, is_dry: bool) -> None:
        index = finding.index
        if not is_dry:
            apply_finding(mongo.get_database(), finding)
        ttl = ""
        if index.expire_after:
            ttl = f" ({index.expire_after.days} days)"
            if finding.state is IndexState.TTL_DIFFERS:
                wanted = int(index.expire_after.total_seconds())
                ttl = f" ({finding.found.get('expireAfterSeconds')} s -> {wanted} s)"
        self.notes.write(f"{_LABELS[finding.state][is_dry]}: {index.collection}.{index.name}{ttl}")
        if is_dry and finding.state in _CHANGED and index.expire_after:
            expired = count_expired(mongo.get_database(), index, now=datetime.now(UTC))
            self.notes.write(f"  the TTL would delete {expired} documents of {index.collection}")

    def _report_kept_ttl(self) -> None:
        kept = list_indexes(None)
        ttls = [index for index in list_indexes(conf.retention) if index not in kept]
        for found in compare_indexes(mongo.get_database(), ttls):
            if found.state is not IndexState.MISSING:
                collection, name = found.index.collection, found.index.name
                self.notes.write(
                    f"still there: {collection}.{name} deletes documents; to keep them "
                    f"run db.{collection}.dropIndex('{name}')"
                )


def _build_order(finding: IndexFinding) -> str:
    return (
        f"{finding.index.collection}.{finding.index.name} is held back: it would delete runs that "
        "no total holds yet. Run 'python manage.py add_run_fields' and then this command again."
    )


def _build_fix(finding: IndexFinding) -> str:
    index, found = finding.index, finding.found
    wanted = index.build_document()
    wanted.pop("name")
    key = wanted.pop("key")
    return (
        f"{index.collection}: the index {found['name']} has {dict(found['key'])} where "
        f"{index.name} should be {key} {wanted or ''}. To replace it run "
        f"db.{index.collection}.dropIndex('{found['name']}') and this command again."
    )
