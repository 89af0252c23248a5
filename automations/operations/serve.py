"""What `serve` and `demo` share: secrets, the look at MongoDB, and the processes that they run."""

import http.client
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import msgspec
from django.conf import settings

from automations.conf import conf
from automations.hosts import is_loopback
from automations.operations import webserver
from automations.operations.health_store import list_missing_indexes
from automations.operations.prometheus import VARIABLE as METRICS_VARIABLE
from automations.operations.prometheus import metrics_directory
from automations.operations.supervisor import Child, Supervisor
from tracking.conf import conf as tracking_conf
from tracking.embedded.server import ensure_running
from tracking.exceptions import TrackingError
from tracking.maintenance.verification.findings import describe_some
from tracking.mongo import client as mongo
from tracking.mongo import deployment
from tracking.mongo.errors import bounded
from tracking.mongo.indexes import ensure_collections, list_obstacles

logger = logging.getLogger("automations.serve")

# The processes of a `serve` that was killed need a moment to notice and let go of the port.
_PORT_PATIENCE_SECONDS = 1.5
_LOOK_SECONDS = 10.0
# A call to Meta takes 26 s at the very most (automations/instagram/graph.py), and one that is cut
# off may have been delivered or not.
_WORKER_STOP_SECONDS = 28.0
_EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, never bound to


class ServeRefused(Exception):
    """Why this must not be served; one sentence with what to change."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen, with how many web processes, threads in each, and counters."""

    host: str
    port: int
    processes: int
    threads: int
    counters: int = 1

    @property
    def url(self) -> str:
        """The root URL as a browser on this machine reaches it."""
        host = "127.0.0.1" if self.host in _EVERYWHERE else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def use_data_dir(path: str | None) -> None:
    """Keep the embedded MongoDB there instead of in DATA_DIR."""
    if path:
        settings.DATA_DIR = Path(path).absolute()


def make_missing_secrets(*, is_allowed: bool) -> dict[str, str]:
    """Make what the environment does not name and return it, by variable.

    Raises ServeRefused instead where that is not allowed: made secrets change at every start, and
    Meta would be answered 403.
    """
    made = {}
    if conf.is_secret_key_ephemeral:
        made["DJANGO_SECRET_KEY"] = settings.SECRET_KEY
    if not conf.app_secrets:
        made["INSTAGRAM_APP_SECRET"] = secrets.token_hex(16)
    if made and not is_allowed:
        raise ServeRefused(
            f"Set {' and '.join(made)} in the environment (.env.example says where they come "
            "from), or DJANGO_DEBUG=1 to have them made for this run."
        )
    if is_allowed and not conf.verify_token:
        made["INSTAGRAM_VERIFY_TOKEN"] = secrets.token_urlsafe(16)
        settings.INSTAGRAM_VERIFY_TOKEN = made["INSTAGRAM_VERIFY_TOKEN"]
    if "INSTAGRAM_APP_SECRET" in made:
        settings.INSTAGRAM_APP_SECRETS = (made["INSTAGRAM_APP_SECRET"],)
    return made


def verify_address(address: Address) -> None:
    """Raise ServeRefused where nobody must or can listen."""
    if settings.DEBUG and not is_loopback(address.host):
        raise ServeRefused(
            f"DJANGO_DEBUG shows settings and source to everybody who reaches {address.host}; "
            "unset it, or listen on 127.0.0.1."
        )
    deadline = time.monotonic() + _PORT_PATIENCE_SECONDS
    while problem := webserver.find_address_problem(address.host, address.port):
        if time.monotonic() >= deadline:
            raise ServeRefused(problem)
        time.sleep(0.1)


def prepare_database() -> list[str]:
    """Look at MongoDB, starting the embedded one when none is named; create what is missing.

    Collections only: indexes belong to `add_run_indexes`. Returns warnings, as sentences. Raises
    ServeRefused when MongoDB does not answer or cannot run transactions.
    """
    try:
        client = mongo.get_client()
        facts = deployment.read_server_facts(client)
        if refusal := deployment.find_refusal(facts):
            raise ServeRefused(refusal)
        with bounded(_LOOK_SECONDS):
            database = mongo.get_database()
            ensure_collections(database, is_strict=False)
            missing = list_missing_indexes()
            warnings = [f"{name} {what}." for name, what in list_obstacles(database).items()]
    except TrackingError as error:
        raise ServeRefused(str(error)) from error
    if tracking_conf.mongodb_uri:
        warnings += deployment.list_warnings(facts, uri=tracking_conf.mongodb_uri)
    if missing:
        warnings.append(
            f"Indexes are missing ({describe_some(missing)}): reads get slower with every run; run "
            "`python manage.py add_run_indexes`."
        )
    return warnings


def run_processes(
    address: Address,
    *,
    made: Mapping[str, str],
    on_ready: Callable[[], None],
    log_path: Path | None = None,
) -> bool:
    """Serve until SIGTERM, SIGINT or SIGHUP; return whether one of these was the end.

    `made` are secrets of this run that its processes have to share. `on_ready` is called once,
    when the first answer came. Their log goes to `log_path`, or to stderr.
    """
    mongo.close()  # this process has nothing more to ask
    uri = _find_uri()

    def build_environment() -> dict[str, str]:
        nonlocal uri
        uri = _find_uri()
        return {
            **os.environ,
            **made,
            "DATA_DIR": str(tracking_conf.data_dir),
            # The embedded MongoDB too: this process looks after it, theirs need not.
            "MONGODB_URI": uri,
            METRICS_VARIABLE: str(metrics_dir),
            "DJANGO_SETTINGS_MODULE": os.environ["DJANGO_SETTINGS_MODULE"],
        }

    build_child = partial(
        Child, directory=settings.BASE_DIR, build_environment=build_environment, log_path=log_path
    )
    manage = [sys.executable, "manage.py"]
    parent = ["--parent", str(os.getpid())]
    command = webserver.build_command(
        settings.WSGI_APPLICATION,
        host=address.host,
        port=address.port,
        processes=address.processes,
        threads=address.threads,
    )
    web = build_child(name="web", command=command)
    worker = build_child(
        name="worker", command=[*manage, "run_worker", *parent], stop_seconds=_WORKER_STOP_SECONDS
    )
    # Counting that fails stops no delivery (I7), so a counter that cannot run stops no server.
    counters = [
        build_child(
            name=f"counter {number}", command=[*manage, "run_counter", *parent], is_vital=False
        )
        for number in range(1, address.counters + 1)
    ]
    supervisor = Supervisor([web, worker, *counters])

    def follow_mongodb() -> None:
        # This starts an embedded one that died again, on another port if its own was taken.
        try:
            if _find_uri() != uri:
                supervisor.restart()
        except TrackingError as error:
            logger.error("%s", error)

    with metrics_directory() as metrics_dir:
        return supervisor.run(
            is_ready=lambda: _is_answering(address), on_ready=on_ready, on_tick=follow_mongodb
        )


def _find_uri() -> str:
    return tracking_conf.mongodb_uri or ensure_running(tracking_conf.data_dir)


def _is_answering(address: Address) -> bool:
    """Return whether anything answers: what it says depends on DJANGO_ALLOWED_HOSTS."""
    connection = http.client.HTTPConnection(address.url.removeprefix("http://"), timeout=1)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/healthz")
        connection.getresponse()
        return True
    return False
