"""Switch tracking (or the statistics) on or off for every process, without a deploy."""

from datetime import UTC, datetime
from typing import Any

from django.core.management.base import CommandParser

from tracking import mongo
from tracking.conf import conf
from tracking.indexes import ensure_collections
from tracking.management.database_command import DatabaseCommand
from tracking.replay import Replayer
from tracking.switch import (
    SwitchState,
    find_switch_time,
    is_stats_switched_on,
    read_switch,
    write_switch,
)


class Command(DatabaseCommand):
    """`manage.py tracking on|off|status`: automations go on answering whatever it says."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("action", choices=("on", "off", "status"))
        parser.add_argument(
            "--stats", action="store_true", help="the statistics of answers instead of tracking"
        )

    def run(self, **options: Any) -> None:
        """Set the switch, or show it."""
        database = mongo.get_database()
        action, now = options["action"], datetime.now(UTC)
        if action != "status":
            ensure_collections(database)
        if action == "on" and not options["stats"]:
            report = Replayer(database, window=conf.dedup_window).turn_on(now=now)
            self.stdout.write(f"untracked triggers counted: {report.counted}")
            self.stdout.write(f"untracked triggers that were duplicates: {report.duplicates}")
        elif action != "status":
            name = "stats" if options["stats"] else "tracking"
            write_switch(database, name, SwitchState(action), now=now)
        self._print_status()

    def _print_status(self) -> None:
        database = mongo.get_database()
        replayer = Replayer(database, window=conf.dedup_window)
        state = read_switch(database)
        stats = SwitchState.ON if is_stats_switched_on(database) else SwitchState.OFF
        for name, value, is_allowed in (
            ("tracking", state, conf.is_enabled),
            ("stats", stats, conf.is_stats_enabled),
        ):
            since = find_switch_time(database, name)
            when = f" since {since.isoformat(timespec='seconds')}" if since else ""
            veto = "" if is_allowed else f", but the environment says off (TRACKING_{_VETO[name]})"
            self.stdout.write(f"{name}: {value.value}{when}{veto}")
        self.stdout.write(f"untracked triggers waiting: {replayer.count_untracked()}")


_VETO = {"tracking": "ENABLED", "stats": "STATS_ENABLED"}
