"""`simulate`: posts signed, realistic deliveries to a running server, and prints what came back."""

import json
import secrets
import signal
import threading
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError
from rich.console import Console

from automations.conf import conf
from automations.demo.simulation import Plan, Report, Target, generate_deliveries, send_deliveries
from automations.demo.simulation.plan import KINDS, build_targets
from automations.demo.store import list_automations, read_totals
from tracking.exceptions import TrackingError
from tracking.management.database_command import JSON, DatabaseCommand, flag, option

DEFAULT_URL = "http://127.0.0.1:8000"
RETRY_SECONDS = 60.0
_PLANNED = ("batch", "duplicates", "redeliveries", "bad_signatures", "text")


def share(text: str) -> float:
    """Raise ValueError, which argparse reports by this function's name."""
    if not 0 <= float(text) <= 1:
        raise ValueError
    return float(text)


def count(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def _share(default: float, meaning: str) -> dict[str, Any]:
    text = f"{meaning} ({default:g})"
    return option(text, type=share, default=default, metavar="SHARE")


class Command(DatabaseCommand):
    help = (
        "Post signed, realistic deliveries to a running server and print what came back. "
        "Exits with 1 when an event was not acknowledged or a forged delivery was accepted."
    )
    requires_system_checks = ()

    arguments = {
        "kind": option(
            "what people do; mixed (the default) is all three",
            nargs="?",
            default="mixed",
            choices=(*KINDS, "mixed"),
        ),
        "--events": option("distinct events (200; 0: no end)", type=int, default=200),
        "--batch": option("events per delivery (a mix like Meta's)", type=count, metavar="N"),
        "--duplicates": _share(0.3, "events by a person who called the automation within the hour"),
        "--redeliveries": _share(0.3, "deliveries sent again, also in other batches"),
        "--bad-signatures": _share(
            0.0, "deliveries with a wrong signature and events of their own"
        ),
        "--text": option("every event's text (made from the keywords)"),
        "--account": option(
            "account to write to, repeatable (those of the active automations in MongoDB)",
            action="append",
            metavar="ID",
        ),
        "--seed": option("make the same traffic again (random)", type=int),
        "--url": option(f"server, repeatable: they take turns ({DEFAULT_URL})", action="append"),
        "--rate": option("events per second (0: as fast as possible)", type=float, default=0.0),
        "--connections": option("at the same time (4)", type=count, default=4, metavar="N"),
        "--retry": flag(
            "send again what got no answer, 429 or 5xx, as Meta does, for up to a minute"
        ),
        "--json": JSON,
    }

    def run(self, **options: Any) -> None:
        if not conf.app_secrets:
            raise CommandError(
                "Set INSTAGRAM_APP_SECRET to the secret of the server; `serve` and `demo` print "
                "the one that they made."
            )
        if min(options["rate"], options["events"]) < 0 or options["bad_signatures"] == 1:
            raise CommandError("--rate and --events are 0 or more, --bad-signatures less than 1.")
        try:
            plan = build_plan(options)
            before = _read_totals(options)
            report = self._run(plan, options)
            counted = list_counted(before, _read_totals(options))
        except (ValueError, TrackingError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(report.to_json() | {"automations": counted}))
        else:
            for line in report.list_lines():
                self.stdout.write(line)
            for one in counted:
                grown = one["after"] - one["before"]
                self.stdout.write(f"runs of {one['name']}: {one['after']:,} (+{grown:,})")
        if not any(status.isdigit() for status in report.statuses):
            urls = " or ".join(options["url"] or [DEFAULT_URL])
            raise CommandError(
                f"No server answers at {urls}: start `serve` there, or name another with --url."
            )
        if not report.is_as_expected:
            raise SystemExit(1)

    def _run(self, plan: Plan, options: dict[str, Any]) -> Report:
        stop = threading.Event()
        console = Console(stderr=True, quiet=options["json"] or not self.stdout.isatty())
        before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
        try:
            with console.status("Posting…") as status:
                return send_deliveries(
                    generate_deliveries(plan),
                    options["url"] or [DEFAULT_URL],
                    conf.app_secrets[0],
                    seed=plan.seed,
                    connections=options["connections"],
                    rate=options["rate"],
                    retry_for=RETRY_SECONDS if options["retry"] else 0.0,
                    stop=stop,
                    on_progress=lambda events: status.update(f"Posted {events:,} events…"),
                )
        finally:
            signal.signal(signal.SIGTERM, before)


def list_counted(
    before: Mapping[str, tuple[str, int]], after: Mapping[str, tuple[str, int]]
) -> list[dict[str, Any]]:
    """Return the automations that have more runs than before, most new runs first."""
    counted = [
        {"id": one, "name": name, "before": before[one][1], "after": total}
        for one, (name, total) in after.items()
        if one in before and total > before[one][1]
    ]
    return sorted(counted, key=lambda one: one["before"] - one["after"])


def _read_totals(options: dict[str, Any]) -> dict[str, tuple[str, int]]:
    if options["account"]:
        return {}  # with accounts named, there may be no database at all
    try:
        return read_totals()
    except TrackingError:  # the server may have another database than we do
        return {}


def build_plan(options: dict[str, Any]) -> Plan:
    """Return the plan of the options; reads the automations unless accounts are given."""
    kinds = KINDS if options["kind"] == "mixed" else (options["kind"],)
    seed = options["seed"]
    return Plan(
        targets=_list_targets(options, kinds),
        events=options["events"] or None,
        **{name: options[name] for name in _PLANNED},
        seed=secrets.randbelow(2**32) if seed is None else seed,
    )


def _list_targets(options: dict[str, Any], kinds: tuple[str, ...]) -> tuple[Target, ...]:
    if options["account"]:
        words = (options["text"] or "LINK",)
        return tuple(
            Target(kind=kind, account_id=account_id, keywords=words)
            for account_id in options["account"]
            for kind in kinds
        )
    targets = build_targets(list_automations({"isActive": True}), kinds=kinds)
    if not targets:
        raise CommandError(
            f"No active automation in MongoDB can answer {' or '.join(kinds)}; create one, or "
            "name accounts with --account ID."
        )
    return targets
