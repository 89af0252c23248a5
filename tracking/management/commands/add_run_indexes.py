"""Create the named indexes and the TTL; nothing is ever dropped."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser

from tracking.conf import conf
from tracking.management.database_command import DatabaseCommand
from tracking.management.progress import show_progress
from tracking.mongo import client as mongo
from tracking.mongo.indexes import (
    Index,
    IndexFinding,
    IndexState,
    apply_finding,
    compare_indexes,
    count_expired,
    ensure_collections,
    list_indexes,
)
from tracking.rollups.totals import TotalStore


class Command(DatabaseCommand):
    """`manage.py add_run_indexes`: safe to repeat and while traffic flows."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--dry-run", action="store_true",
            help="change nothing; say what would be created and how many documents the TTL deletes",
        )  # fmt: skip
        parser.add_argument(
            "--keep-forever", action="store_true", help="no TTL on runs and contacts"
        )

        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def run(self, **options: Any) -> None:
        """Compare every index with its declaration and create or change what differs."""
        database = mongo.get_database()
        is_dry = options["dry_run"]
        # What a script reads holds the result alone.
        self._notes = self.stderr if options["json"] else self.stdout
        retention = None if options["keep_forever"] else conf.retention
        if not is_dry:
            ensure_collections(database)
        findings = compare_indexes(database, list_indexes(retention))
        if retention is None:
            self._report_kept_ttl(findings)
        early = [one for one in findings if self._is_too_early(one)]
        if is_dry:
            for finding in early:
                self._notes.write(_build_order(finding))
            early = []
        findings = [one for one in findings if one not in early]
        changed = 0
        with show_progress("indexes", len(findings), self._notes) as advance:
            for finding in findings:
                self._handle(finding, is_dry=is_dry)
                changed += finding.state in (IndexState.MISSING, IndexState.TTL_DIFFERS)
                advance(1)
        blocked = [one for one in findings if one.state is IndexState.KEY_DIFFERS]
        present = len(findings) - changed - len(blocked)
        verb = "to create or change" if is_dry else "created or changed"
        self._notes.write(f"indexes present: {present}")
        self._notes.write(f"indexes {verb}: {changed}")
        problems = [_build_fix(finding) for finding in blocked]
        problems += [_build_order(finding) for finding in early]
        if options["json"]:
            result = _build_result(findings, is_dry=is_dry, problems=problems)
            self.stdout.write(json.dumps(result, indent=2))
        if problems:
            raise CommandError("\n".join(problems))

    def _is_too_early(self, finding: IndexFinding) -> bool:
        """Return whether the TTL would delete runs that no total holds yet."""
        index = finding.index
        if index.collection != "automation_runs" or index.expire_after is None:
            return False
        if finding.state not in (IndexState.MISSING, IndexState.TTL_DIFFERS):
            return False
        database = mongo.get_database()
        oldest = datetime.now(UTC) - index.expire_after
        ids = database["automation_runs"].distinct("automationId", {"createdAt": {"$lt": oldest}})
        named = [automation_id for automation_id in ids if isinstance(automation_id, str)]
        totals = TotalStore(database)
        known = totals.find_existing(named)
        return bool(known - totals.find_bases(known).keys())

    def _handle(self, finding: IndexFinding, *, is_dry: bool) -> None:
        index = finding.index
        name = f"{index.collection}.{index.name}"
        label = {
            IndexState.PRESENT: "present",
            IndexState.MISSING: "would create" if is_dry else "created",
            IndexState.TTL_DIFFERS: "would change TTL of" if is_dry else "changed TTL of",
            IndexState.KEY_DIFFERS: "DIFFERS",
        }[finding.state]
        if not is_dry:
            apply_finding(mongo.get_database(), finding)
        self._notes.write(f"{label}: {name}{_describe_ttl(finding)}")
        is_new_ttl = finding.state in (IndexState.MISSING, IndexState.TTL_DIFFERS)
        if is_dry and is_new_ttl and index.expire_after:
            expired = count_expired(mongo.get_database(), index, now=datetime.now(UTC))
            self._notes.write(f"  the TTL would delete {expired} documents of {index.collection}")

    def _report_kept_ttl(self, findings: list[IndexFinding]) -> None:
        wanted = {(one.index.collection, one.index.name) for one in findings}
        for index in list_indexes(conf.retention):
            if (index.collection, index.name) in wanted:
                continue
            [found] = compare_indexes(mongo.get_database(), [index])
            if found.state is not IndexState.MISSING:
                self._notes.write(
                    f"still there: {index.collection}.{index.name} deletes documents; to keep them "
                    f"run db.{index.collection}.dropIndex('{index.name}')"
                )


def _build_result(
    findings: Sequence[IndexFinding], *, is_dry: bool, problems: Sequence[str]
) -> dict[str, Any]:
    """Return what was found, `state` as it was before anything was changed."""
    return {
        "isDryRun": is_dry,
        "indexes": [
            {"collection": one.index.collection, "name": one.index.name, "state": one.state.value}
            for one in findings
        ],
        "problems": list(problems),
    }


def _describe_ttl(finding: IndexFinding) -> str:
    index: Index = finding.index
    if index.expire_after is None or not index.expire_after:
        return ""
    wanted = int(index.expire_after.total_seconds())
    if finding.state is IndexState.TTL_DIFFERS:
        return f" ({finding.found.get('expireAfterSeconds')} s -> {wanted} s)"
    return f" ({index.expire_after.days} days)"


def _build_order(finding: IndexFinding) -> str:
    index = finding.index
    return (
        f"{index.collection}.{index.name} is held back: it would delete runs that no total holds "
        "yet. Run 'python manage.py add_run_fields' and then this command again."
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
