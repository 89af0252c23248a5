"""`serve`: web processes, a worker, counters, and the embedded MongoDB if it is to be used."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from automations.operations import serve
from tracking.conf import conf as tracking_conf
from tracking.ids import PARTITIONS
from tracking.management.database_command import DatabaseCommand, option

# Shown at start.
_PAGES = {
    "Webhook": "/api/webhooks/instagram",
    "List": "/api/workspaces/<workspace>/automations",
    "Dashboard": "/workspaces/<workspace>/",
    "API docs": "/api/docs",
    "Health": "/healthz",
    "Ready": "/readyz",
    "Metrics": "/metrics",
}


def _number(default: int, meaning: str) -> dict[str, Any]:
    return option(f"{meaning} ({default})", type=int, default=default, metavar="N")


class ServingCommand(DatabaseCommand):
    """The base of `serve` and `demo`: what must not or cannot be served is one sentence."""

    requires_system_checks = ()  # run later, once the options are in the settings
    arguments = {
        "--port": _number(8000, "where it listens"),
        "--data-dir": option("of the embedded MongoDB (DATA_DIR, or .data)", metavar="PATH"),
        "--processes": _number(2, "web processes"),
        # Request threads mostly wait for the insert that carries their events.
        "--threads": _number(64, "concurrent requests of each process"),
        "--counters": _number(1, "processes that count, 0 where run_counter does"),
    }
    last_words = "Stopped."

    def serve_until_stopped(self, address: serve.Address, options: dict[str, Any]) -> bool:
        """Serve until a signal comes; return whether one ended it. Raises ServeRefused."""
        raise NotImplementedError

    def run(self, **options: Any) -> None:
        address = _build_address(options)
        try:
            serve.use_data_dir(options["data_dir"])
            is_stopped = self.serve_until_stopped(address, options)
        except serve.ServeRefused as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Interrupted before serving.", returncode=130) from None
        if not is_stopped:
            raise CommandError("The web processes keep ending; their output is above.")
        self.stdout.write(self.last_words)

    def write_summary(self, title: str, rows: list[tuple[str, str]], made: dict[str, str]) -> None:
        self.stdout.write(self.style.SUCCESS(title))
        for name, value in rows:
            self.stdout.write(f"  {name:<10} {value}")
        for name, value in made.items():
            self.stdout.write(f"  made for this run: {name}={value}")


class Command(ServingCommand):
    """Serves plain HTTP until SIGTERM or Ctrl-C; TLS ends at a proxy in front."""

    help = (
        "Serve the webhook, the API and its pages over plain HTTP. Without MONGODB_URI the "
        "embedded MongoDB of the data directory is started too."
    )
    _host = option("address (127.0.0.1)", default="127.0.0.1")
    arguments = {"--host": _host, **ServingCommand.arguments}

    def serve_until_stopped(self, address: serve.Address, options: dict[str, Any]) -> bool:
        made = serve.make_missing_secrets(is_allowed=settings.DEBUG)
        self.check()
        serve.verify_address(address)
        for warning in serve.prepare_database():
            self.stderr.write(self.style.WARNING(f"Warning: {warning}"))
        return serve.run_processes(
            address, made=made, on_ready=lambda: self._announce(address, made)
        )

    def _announce(self, address: serve.Address, made: dict[str, str]) -> None:
        rows = [*list_urls(address, workspace="<workspace>"), ("MongoDB", describe_mongodb())]
        self.write_summary(f"Serving on {address.url}", rows, made)
        self.stdout.write("Stop with Ctrl-C.")
        self.stdout.flush()


def _build_address(options: dict[str, Any]) -> serve.Address:
    if not 1 <= options["port"] <= 65535:
        raise CommandError(f"--port is {options['port']}; use 1 to 65535.")
    if options["processes"] < 1 or options["threads"] < 1:
        raise CommandError("--processes and --threads must be 1 or more.")
    if not 0 <= options["counters"] <= PARTITIONS:
        raise CommandError(f"--counters is {options['counters']}; use 0 to {PARTITIONS}.")
    names = ("port", "processes", "threads", "counters")
    host = options.get("host", "127.0.0.1")
    return serve.Address(host=host, **{name: options[name] for name in names})


def list_urls(address: serve.Address, *, workspace: str) -> list[tuple[str, str]]:
    paths = ((name, path.replace("<workspace>", workspace)) for name, path in _PAGES.items())
    return [(name, address.url + path) for name, path in paths]


def describe_mongodb() -> str:
    """Return where the data is, without the URI, which may hold a password."""
    if tracking_conf.mongodb_uri:
        return "MONGODB_URI"
    return f"embedded, in {tracking_conf.data_dir}"
