"""Switch tracking (or the statistics) on or off for every process, without a deploy."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import CommandParser

from tracking.conf import conf
from tracking.counting.switch import (
    SwitchState,
    find_switch_time,
    is_stats_switched_on,
    read_switch,
    write_switch,
)
from tracking.maintenance.replay import Replayer
from tracking.management.database_command import DatabaseCommand
from tracking.mongo import client as mongo
from tracking.mongo.indexes import ensure_collections


class Command(DatabaseCommand):
    """`manage.py tracking on|off|status`: automations go on answering whatever it says."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("action", choices=("on", "off", "status"))
        parser.add_argument(
            "--stats", action="store_true", help="the statistics of answers instead of tracking"
        )

        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def run(self, **options: Any) -> None:
        """Set the switch, or show it."""
        database = mongo.get_database()
        action, now = options["action"], datetime.now(UTC)
        replayed: dict[str, int] | None = None
        if action != "status":
            ensure_collections(database)
        if action == "on" and not options["stats"]:
            report = Replayer(database, window=conf.dedup_window).turn_on(now=now)
            replayed = {"counted": report.counted, "duplicates": report.duplicates}
        elif action != "status":
            name = "stats" if options["stats"] else "tracking"
            write_switch(database, name, SwitchState(action), now=now)
        status = self._read_status()
        if options["json"]:
            self.stdout.write(json.dumps(status | {"replayed": replayed}, indent=2))
        else:
            self._print(status, replayed)

    def _read_status(self) -> dict[str, Any]:
        database = mongo.get_database()
        replayer = Replayer(database, window=conf.dedup_window)
        state = read_switch(database)
        stats = SwitchState.ON if is_stats_switched_on(database) else SwitchState.OFF
        status: dict[str, Any] = {}
        for name, value, is_allowed in (
            ("tracking", state, conf.is_enabled),
            ("stats", stats, conf.is_stats_enabled),
        ):
            since = find_switch_time(database, name)
            status[name] = {
                "state": value.value,
                "since": since.isoformat(timespec="seconds") if since else None,
                "isAllowed": is_allowed,
            }
        return status | {"untracked": replayer.count_untracked()}

    def _print(self, status: Mapping[str, Any], replayed: Mapping[str, int] | None) -> None:
        if replayed is not None:
            self.stdout.write(f"untracked triggers counted: {replayed['counted']}")
            self.stdout.write(f"untracked triggers that were duplicates: {replayed['duplicates']}")
        for name, variable in _VETO.items():
            one = status[name]
            when = f" since {one['since']}" if one["since"] else ""
            veto = f", but the environment says off (TRACKING_{variable})"
            self.stdout.write(f"{name}: {one['state']}{when}{'' if one['isAllowed'] else veto}")
        self.stdout.write(f"untracked triggers waiting: {status['untracked']}")


_VETO = {"tracking": "ENABLED", "stats": "STATS_ENABLED"}
