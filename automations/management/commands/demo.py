"""`demo`: `serve` on a workspace with a week of history and simulated traffic."""

from __future__ import annotations

import logging
import secrets
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from automations import seed, seed_store, serving, tokens
from automations.conf import conf
from automations.management.commands.serve import (
    add_shared_arguments,
    build_address,
    describe_mongodb,
    list_urls,
)
from automations.simulation import Plan, Target, run
from automations.simulation.plan import KINDS
from automations.simulation.targets import build_targets
from tracking.conf import conf as tracking_conf
from tracking.exceptions import TrackingError

logger = logging.getLogger("automations.demo")

DEFAULT_RATE = 5.0
_TOKEN_LIFETIME = timedelta(days=7)


class Command(BaseCommand):
    """Serves a made-up shop's workspace on this machine, and writes to it like its followers."""

    help = (
        "Serve a made-up workspace with a week of runs and simulated, signed traffic; print the "
        "URLs, a token and a curl line. Safe to repeat on the same data directory."
    )
    requires_system_checks = ()  # run by handle(), once the secrets are made

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare where to listen, and how much traffic there is."""
        add_shared_arguments(parser)
        parser.add_argument(
            "--rate", type=float, default=DEFAULT_RATE, metavar="N",
            help=f"simulated events a second; 0 for none ({DEFAULT_RATE:g})",
        )  # fmt: skip

    def handle(self, **options: Any) -> None:
        """Seed and serve. Raises CommandError, in one sentence, for what stops it."""
        address = build_address(options, host="127.0.0.1")
        if options["rate"] < 0:
            raise CommandError("--rate must be 0 or more.")
        try:
            serving.use_data_dir(options["data_dir"])
            made = serving.make_missing_secrets(is_allowed=True)
            self.check()
            serving.verify_address(address)
            serving.prepare_database()  # what it warns of is mended next
            self._seed()
            secret, _ = tokens.create_token(
                workspace_id=seed.WORKSPACE_ID,
                at=datetime.now(UTC),
                name="demo",
                expires_at=datetime.now(UTC) + _TOKEN_LIFETIME,
            )
            targets = build_targets(seed_store.list_demo_automations(), kinds=KINDS)
            log_path = self._choose_log()
            traffic = _Traffic(targets, address.url, rate=options["rate"])
            try:
                is_stopped = serving.run_processes(
                    address,
                    made=made,
                    on_ready=lambda: self._announce(address, made, secret, traffic, log_path),
                    log_path=log_path,
                )
            finally:
                traffic.stop()
        except (serving.ServeRefused, TrackingError) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Interrupted before serving.", returncode=130) from None
        if not is_stopped:
            raise CommandError("The web processes keep ending; what they said is above.")
        self.stdout.write("Stopped; the next start goes on with the same data.")

    def _seed(self) -> None:
        others = seed_store.list_other_workspaces()
        if others:
            raise CommandError(
                f"The database of MONGODB_URI holds other workspaces ({', '.join(others)}); name "
                "an empty database for the demo."
                if tracking_conf.mongodb_uri
                else f"{tracking_conf.data_dir} holds other workspaces ({', '.join(others)}); "
                "name another directory with --data-dir."
            )
        if not seed_store.list_demo_automations():
            self.stdout.write("Seeding the workspace with a week of runs…")
            now = datetime.now(UTC)
            seed_store.insert_workspace(
                automations=seed.build_automations(now=now), runs=seed.build_history(now=now)
            )
        # As on any database that an older product left; both are safe to repeat.
        for command in ("add_run_fields", "add_run_indexes"):
            self.stdout.write(f"$ python manage.py {command}")
            call_command(command, stdout=self.stdout, stderr=self.stderr)

    def _choose_log(self) -> Path | None:
        """Return a file for the log when it would push the curl line off somebody's terminal."""
        if not sys.stderr.isatty():
            return None
        tracking_conf.data_dir.mkdir(parents=True, exist_ok=True)
        return tracking_conf.data_dir / "demo.log"

    def _announce(
        self,
        address: serving.Address,
        made: dict[str, str],
        secret: str,
        traffic: _Traffic,
        log_path: Path | None,
    ) -> None:
        write = self.stdout.write
        write("")
        write(self.style.SUCCESS(f"The demo is up on {address.url}"))
        for name, url in list_urls(address, workspace=seed.WORKSPACE_ID):
            write(f"  {name:<10} {url}")
        write(f"  {'Token':<10} {secret}")
        write(f"  {'MongoDB':<10} {describe_mongodb()}")
        if log_path is not None:
            write(f"  {'Log':<10} tail -f {log_path}")
        for name, value in made.items():
            write(f"  made for this run: {name}={value}")
        write("")
        write("See the counts grow:")
        write("")
        write(
            f"curl -s -H 'Authorization: Bearer {secret}' "
            f"{address.url}/api/workspaces/{seed.WORKSPACE_ID}/automations"
        )
        write("")
        write("Stop with Ctrl-C.")
        self.stdout.flush()
        traffic.start()


class _Traffic:
    """The simulated followers: a thread that posts until it is stopped."""

    def __init__(self, targets: tuple[Target, ...], url: str, *, rate: float) -> None:
        self._targets = targets
        self._url = url
        self._rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._post, name="traffic", daemon=True)

    def start(self) -> None:
        """Begin, if there is anybody to write to."""
        if self._rate and self._targets:
            self._thread.start()

    def stop(self) -> None:
        """End, and wait for the delivery on its way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _post(self) -> None:
        try:
            while not self._stop.wait(0.1):  # a run ends when nobody answers for a minute
                plan = Plan(
                    targets=self._targets, events=None, batch=1, seed=secrets.randbelow(2**32)
                )
                run(
                    plan,
                    [self._url],
                    conf.app_secrets[0],
                    connections=1,
                    rate=self._rate,
                    is_retrying=True,
                    keep_events=False,
                    stop=self._stop,
                )
        except Exception:  # the demo goes on without followers, and says so
            logger.exception("The simulated traffic stopped")
