"""`demo`: `serve` on a workspace with a week of history, beside a stand-in for Instagram."""

import secrets
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.urls import reverse

from automations.accounts import accounts
from automations.accounts.encryption import make_key
from automations.auth import tokens
from automations.conf import conf
from automations.demo import seed, store
from automations.demo.followers import Followers
from automations.demo.sandbox import Sandbox
from automations.demo.simulation.plan import build_targets
from automations.management.commands.serve import ServingCommand, describe_mongodb, list_urls
from automations.operations import serve
from tracking.clock import read_now
from tracking.conf import conf as tracking_conf
from tracking.management.database_command import option

# Every fourth webhook comes twice, as some of Meta's do.
_DOUBLE_EVERY = 4
_TOKEN_LIFETIME = timedelta(days=7)


class Command(ServingCommand):
    """Serves a made-up shop's workspace, and an Instagram that its followers use.

    They write, tap and follow. What they are sent goes to that stand-in; Meta receives nothing.
    """

    help = (
        "Serve a made-up workspace with a week of runs beside a stand-in for Instagram, whose "
        "people write, are answered, tap and follow; print the URLs, a token and a curl line. "
        "Safe to repeat on the same data directory."
    )
    arguments = {
        **ServingCommand.arguments,
        "--rate": option(
            "simulated events per second; 0 for none (5)", type=float, default=5.0, metavar="N"
        ),
    }
    last_words = "Stopped; the next start continues with the same data."

    def serve_until_stopped(self, address: serve.Address, options: dict[str, Any]) -> bool:
        if options["rate"] < 0:
            raise CommandError("--rate must be 0 or more.")
        made = serve.make_missing_secrets(is_allowed=True)
        if not conf.field_encryption_keys:
            made["FIELD_ENCRYPTION_KEYS"] = make_key()
            settings.FIELD_ENCRYPTION_KEYS = (made["FIELD_ENCRYPTION_KEYS"],)
        self.check()
        serve.verify_address(address)
        serve.prepare_database()  # seeding fixes what it warns of
        self._seed()
        at, workspace_id = read_now(), seed.WORKSPACE_ID
        secret, _ = tokens.create_token(
            workspace_id=workspace_id, at=at, name="demo", expires_at=at + _TOKEN_LIFETIME
        )
        targets = build_targets(store.list_automations({"workspaceId": workspace_id}))
        seed_of_run = secrets.randbelow(2**32)  # a fixed one would repeat the ids of a start
        followers = Followers(targets, rate=options["rate"], seed=seed_of_run)
        log_path = self._choose_log()
        with Sandbox(
            seed=seed_of_run,
            webhook_url=address.url + reverse("automations:webhook"),
            app_secret=conf.app_secrets[0],
            double_every=_DOUBLE_EVERY,
            on_received=followers.on_received,
        ) as meta:
            token = meta.add_account(seed.ACCOUNT_ID)
            accounts.add_account(seed.ACCOUNT_ID, workspace_id=workspace_id, token=token, at=at)
            rows = [
                *list_urls(address, workspace=workspace_id),
                ("Token", secret),
                ("MongoDB", describe_mongodb()),
                ("Instagram", f"a stand-in, INSTAGRAM_GRAPH_URL={meta.url}"),
                *((("Log", f"tail -f {log_path}"),) if log_path else ()),
            ]

            def start() -> None:
                url = f"{address.url}/api/workspaces/{workspace_id}/automations"
                self.stdout.write("")
                self.write_summary(f"The demo is up on {address.url}", rows, made)
                self.stdout.write("\nSee the counts grow:\n")
                self.stdout.write(f"curl -s -H 'Authorization: Bearer {secret}' {url}\n")
                self.stdout.write("Stop with Ctrl-C.")
                self.stdout.flush()
                followers.start(meta)

            try:
                return serve.run_processes(
                    address,
                    # Overrides the environment, because nothing of a demo may reach Meta.
                    made={**made, "INSTAGRAM_GRAPH_URL": meta.url, "INSTAGRAM_SENDING": "on"},
                    on_ready=start,
                    log_path=log_path,
                )
            finally:
                followers.stop()

    def _seed(self) -> None:
        others = store.list_other_workspaces()
        if others:
            raise CommandError(
                f"The database of MONGODB_URI holds other workspaces ({', '.join(others)}); name "
                "an empty database for the demo."
                if tracking_conf.mongodb_uri
                else f"{tracking_conf.data_dir} holds other workspaces ({', '.join(others)}); "
                "name another directory with --data-dir."
            )
        if not store.list_automations({"workspaceId": seed.WORKSPACE_ID}):
            self.stdout.write("Seeding the workspace with a week of runs…")
            now = read_now()
            store.insert_workspace(
                automations=seed.build_automations(now=now), runs=seed.build_history(now=now)
            )
        # As on any database of an older product; both are safe to repeat.
        for command in ("add_run_fields", "add_run_indexes"):
            self.stdout.write(f"$ python manage.py {command}")
            call_command(command, stdout=self.stdout, stderr=self.stderr)

    def _choose_log(self) -> Path | None:
        """Return a file for the log when it would push the curl line off the terminal."""
        if not sys.stderr.isatty():
            return None
        tracking_conf.data_dir.mkdir(parents=True, exist_ok=True)
        return tracking_conf.data_dir / "demo.log"
