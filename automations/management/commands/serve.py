"""`serve`: web processes, a worker, counters, and the embedded MongoDB if it is to be used."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import Resolver404, resolve

from automations.operations import serve
from tracking.conf import conf as tracking_conf
from tracking.ids import PARTITIONS

DEFAULT_PORT = 8000
# Request threads mostly wait for the insert that carries their events.
DEFAULT_PROCESSES, DEFAULT_THREADS, DEFAULT_COUNTERS = 2, 64, 1
# Shown at start where the project has them.
_PAGES = {
    "Webhook": "/api/webhooks/instagram",
    "List": "/api/workspaces/<workspace>/automations",
    "Dashboard": "/workspaces/<workspace>/",
    "API docs": "/api/docs",
    "Health": "/healthz",
    "Ready": "/readyz",
    "Metrics": "/metrics",
}


class Command(BaseCommand):
    """Serves plain HTTP until SIGTERM or Ctrl-C; TLS ends at a proxy in front."""

    help = (
        "Serve the webhook, the API and its pages over plain HTTP. Without MONGODB_URI the "
        "embedded MongoDB of the data directory is started too."
    )
    requires_system_checks = ()  # run by handle(), once the options are in the settings

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address (127.0.0.1)")
        add_shared_arguments(parser)

    def handle(self, **options: Any) -> None:
        """Serve. Raises CommandError, in one sentence, for what must not or cannot be served."""
        address = build_address(options, host=options["host"])
        try:
            serve.use_data_dir(options["data_dir"])
            made = serve.make_missing_secrets(is_allowed=settings.DEBUG)
            self.check()
            serve.verify_address(address)
            for warning in serve.prepare_database():
                self.stderr.write(self.style.WARNING(f"Warning: {warning}"))
            is_stopped = serve.run_processes(
                address, made=made, on_ready=lambda: self._announce(address, made)
            )
        except serve.ServeRefused as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Interrupted before serving.", returncode=130) from None
        if not is_stopped:
            raise CommandError("The web processes keep ending; their output is above.")
        self.stdout.write("Stopped.")

    def _announce(self, address: serve.Address, made: dict[str, str]) -> None:
        rows = [*list_urls(address, workspace="<workspace>"), ("MongoDB", describe_mongodb())]
        write_summary(self, f"Serving on {address.url}", rows, made)
        self.stdout.write("Stop with Ctrl-C.")
        self.stdout.flush()


def write_summary(
    command: BaseCommand, title: str, rows: list[tuple[str, str]], made: dict[str, str]
) -> None:
    """Print a title, named values, and the secrets that were made."""
    command.stdout.write(command.style.SUCCESS(title))
    for name, value in rows:
        command.stdout.write(f"  {name:<10} {value}")
    for name, value in made.items():
        command.stdout.write(f"  made for this run: {name}={value}")


def add_shared_arguments(parser: CommandParser) -> None:
    """Declare the options that `serve` and `demo` have in common."""
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"({DEFAULT_PORT})")
    parser.add_argument(
        "--data-dir", metavar="PATH", help="of the embedded MongoDB (DATA_DIR, or .data)"
    )
    numbers = (
        ("--processes", DEFAULT_PROCESSES, "web processes"),
        ("--threads", DEFAULT_THREADS, "concurrent requests of each process"),
        ("--counters", DEFAULT_COUNTERS, "processes that count, 0 where run_counter does"),
    )
    for option, default, meaning in numbers:
        parser.add_argument(
            option, type=int, default=default, metavar="N", help=f"{meaning} ({default})"
        )


def build_address(options: dict[str, Any], *, host: str) -> serve.Address:
    """Return the address that the options ask for. Raises CommandError for numbers out of range."""
    if not 1 <= options["port"] <= 65535:
        raise CommandError(f"--port is {options['port']}; use 1 to 65535.")
    if options["processes"] < 1 or options["threads"] < 1:
        raise CommandError("--processes and --threads must be 1 or more.")
    if not 0 <= options["counters"] <= PARTITIONS:
        raise CommandError(f"--counters is {options['counters']}; use 0 to {PARTITIONS}.")
    return serve.Address(
        host=host,
        port=options["port"],
        processes=options["processes"],
        threads=options["threads"],
        counters=options["counters"],
    )


def list_urls(address: serve.Address, *, workspace: str) -> list[tuple[str, str]]:
    """Return the pages this project has, by name."""
    found = []
    for name, pattern in _PAGES.items():
        path = pattern.replace("<workspace>", workspace)
        try:
            resolve(path)
        except Resolver404:
            continue
        found.append((name, address.url + path))
    return found


def describe_mongodb() -> str:
    """Return where the data is, without the URI, which may hold a password."""
    if tracking_conf.mongodb_uri:
        return "MONGODB_URI"
    return f"embedded, in {tracking_conf.data_dir}"
