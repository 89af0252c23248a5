"""Check, by reading only, that tracking is as it should be; end with 1 if it is not."""

import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from tracking.conf import conf
from tracking.maintenance.verification.findings import Finding, Scope, State
from tracking.maintenance.verification.table import CHECKS, run_checks
from tracking.management.database_command import JSON, DatabaseCommand, flag, option
from tracking.mongo import client as mongo

_STYLES = {State.OK: "green", State.WRONG: "bold red", State.SKIPPED: "dim"}


class Command(DatabaseCommand):
    help = __doc__
    arguments = {
        "--full": flag("look at every automation, run and contact, not at the newest only"),
        "--json": JSON,
        "--keep-forever": flag("runs and contacts have no TTL, on purpose"),
        "--only": option(
            "run these checks only: " + ", ".join(CHECKS),
            nargs="+",
            choices=sorted(CHECKS),
            default=(),
            metavar="CHECK",
        ),
    }

    def run(self, **options: Any) -> None:
        scope = Scope(
            database=mongo.get_database(),
            now=datetime.now(UTC),
            retention=None if options["keep_forever"] else conf.retention,
            is_full=options["full"],
        )
        findings = list(run_checks(scope, options["only"]))
        wrong = sum(one.state is State.WRONG for one in findings)
        if options["json"]:
            checked_at = scope.now.isoformat(timespec="milliseconds")
            lines = msgspec.to_builtins(findings)
            self.write_json({"ok": not wrong, "checkedAt": checked_at, "findings": lines})
        else:
            (self._print_table if self.stdout.isatty() else self._print_lines)(findings)
            verdict = f"{wrong} of {len(findings)} lines are wrong" if wrong else "all is well"
            self.stdout.write(f"verify_run_tracking: {verdict}")
        if wrong:
            sys.exit(1)

    def _print_lines(self, findings: list[Finding]) -> None:
        for one in findings:
            self.stdout.write(f"{one.state:<7} {one.what}: {one.figure} (limit: {one.limit})")
            if one.fix:
                self.stdout.write(f"        do: {one.fix}")

    def _print_table(self, findings: list[Finding]) -> None:
        table = Table("", "what", "figure", "limit", "what to do", box=None, padding=(0, 1))
        for one in findings:
            style = _STYLES[one.state]
            table.add_row(f"[{style}]{one.state}[/]", one.what, one.figure, one.limit, one.fix)
        Console(file=sys.stdout).print(table)
