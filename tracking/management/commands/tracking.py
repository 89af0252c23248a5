"""Switch counting (or the statistics) on or off for every process, show it, or try again."""

from typing import Any

import msgspec

from tracking import service
from tracking.clock import read_now
from tracking.conf import conf
from tracking.counting.partitions import build_stuck
from tracking.counting.switch import SwitchState, find_switch_time, read_switch, write_switch
from tracking.maintenance.status import CountingStatus, describe_stuck, read_status
from tracking.management.database_command import JSON, DatabaseCommand, flag, option
from tracking.mongo import client as mongo

_VETO = {"tracking": "ENABLED", "stats": "STATS_ENABLED"}


class Command(DatabaseCommand):
    help = __doc__
    arguments = {
        "action": option(
            "off: triggers wait; on: they are counted in the order of their arrival; "
            "retry: try at once what cannot be counted",
            choices=("on", "off", "status", "retry"),
        ),
        "--stats": flag("the statistics of answers instead of counting"),
        "--json": JSON,
    }

    def run(self, **options: Any) -> None:
        database = mongo.get_database()
        action, now = options["action"], read_now()
        retried = service.retry_stuck() if action == "retry" else None
        status = read_status(database, now=now)  # first: if it fails, the switch stays as it was
        if action in ("on", "off"):
            name = "stats" if options["stats"] else "tracking"
            write_switch(database, name, SwitchState(action), now=now)
        switches = {name: _read_switch(name) for name in _VETO}
        seconds = status.lag(now).total_seconds()
        if options["json"]:
            stuck = msgspec.to_builtins([build_stuck(one) for one in status.stuck])
            rest = {"stuck": stuck, "lagSeconds": round(seconds, 3), "retried": retried}
            self.write_json(switches | msgspec.to_builtins(status) | rest)
            return
        if retried is not None:
            self.stdout.write(f"automations to be tried again: {retried}")
        for name, one in switches.items():
            when = f" since {one['since']}" if one["since"] else ""
            veto = f", but the environment says off (TRACKING_{_VETO[name]})"
            self.stdout.write(f"{name}: {one['state']}{when}{'' if one['isAllowed'] else veto}")
        self._print_status(status)
        self.stdout.write(f"lag: {seconds:.1f} s" if status.waiting.triggers else "lag: none")

    def _print_status(self, status: CountingStatus) -> None:
        ages = ", ".join(
            f"{count} longer" if age == "longer" else f"{count} up to {age}"
            for age, count in status.waiting.by_age.items()
        )
        self.stdout.write(
            f"triggers waiting: {status.waiting.triggers}" + (f" ({ages})" if ages else "")
        )
        for one in status.counters:
            kind = "counter" if one.is_dedicated else "counter beside other work"
            numbers = ", ".join(map(str, one.partitions)) or "none"
            self.stdout.write(f"{kind} {one.host}:{one.pid}: partitions {numbers}")
        if status.unowned:
            self.stdout.write(f"partitions without a counter: {len(status.unowned)}")
        self.stdout.write(f"triggers of stuck automations: {status.waiting.stuck}")
        for line in describe_stuck(status.stuck):
            self.stdout.write(line)


def _read_switch(name: str) -> dict[str, Any]:
    database = mongo.get_database()
    since = find_switch_time(database, name)
    return {
        "state": read_switch(database, name).value,
        "since": since.isoformat(timespec="seconds") if since else None,
        "isAllowed": conf.is_enabled if name == "tracking" else conf.is_stats_enabled,
    }
