"""The two MongoClients of a process, and the database they work on.

One stores and counts. The other, with a pool of its own, serves the API and pages, which also
write automations, so that a tenant never takes the last connection of a delivery.
"""

import atexit
import os
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pymongo import MongoClient, ReadPreference
from pymongo.database import Database
from pymongo.errors import PyMongoError

from tracking.conf import conf
from tracking.embedded.server import ensure_running
from tracking.exceptions import MongoNotConfigured

DEFAULT_DATABASE = "instagram_automations"

# A URI may name others; see _build_options.
_TUNING: dict[str, Any] = {
    # The webhook has 3 s in all; past this it answers 503 and Meta comes again.
    "serverSelectionTimeoutMS": 2500,
    "connectTimeoutMS": 2000,
    "waitQueueTimeoutMS": 2500,
    "maxPoolSize": 50,
}
_WRITES: dict[str, Any] = {"appname": "automation-run-tracking"}
# No query for the API or a page runs longer than this, also where the code sets no limit.
_READS: dict[str, Any] = {"appname": "automation-run-tracking-reads", "timeoutMS": 10_000}
# What the promises rest on; a URI cannot weaken it. Older products left dates past the year 9999
# and texts that are not UTF-8: one of them would stop a whole read.
_FIXED: dict[str, Any] = {
    "tz_aware": True, "w": "majority", "journal": True,
    "datetime_conversion": "DATETIME_AUTO", "unicode_decode_error_handler": "replace",
}  # fmt: skip

_lock = threading.Lock()
# By the names of their applications, all of one URI.
_clients: dict[str, MongoClient[dict[str, Any]]] = {}
_clients_uri = ""
# Clients of the parent process: never closed here, their sockets are shared with it.
_left_behind: list[dict[str, MongoClient[dict[str, Any]]]] = []


def get_client(tuning: Mapping[str, Any] = _WRITES) -> MongoClient[dict[str, Any]]:
    """Return the client that stores and counts. A fork makes the child create a new one.

    Raises MongoNotConfigured when there is no MongoDB to use or its URI cannot be read,
    TrackingUnavailable when the embedded one does not start. It does not connect: an absent
    server shows at the first command.
    """
    global _clients_uri  # noqa: PLW0603
    uri = conf.mongodb_uri or ensure_running(conf.data_dir)
    name: str = tuning["appname"]
    client = _clients.get(name)
    if client is not None and uri == _clients_uri:
        return client
    with _lock:
        if uri != _clients_uri:
            _close()
            _clients_uri = uri
        if name not in _clients:
            _clients[name] = _build_client(uri, tuning)
        return _clients[name]


def get_database(tuning: Mapping[str, Any] = _WRITES) -> Database[dict[str, Any]]:
    """Return the database that the URI names, `instagram_automations` when it names none."""
    # A count just committed must be in the next answer, whatever the URI prefers to read from.
    return get_client(tuning).get_default_database(
        DEFAULT_DATABASE, read_preference=ReadPreference.PRIMARY
    )


def get_read_database() -> Database[dict[str, Any]]:
    """Return the same database through the pool of the API and pages, limited in time."""
    return get_database(_READS)


def close() -> None:
    """Drop the clients; the next call makes new ones."""
    with _lock:
        _close()


def _build_client(uri: str, tuning: Mapping[str, Any]) -> MongoClient[dict[str, Any]]:
    # Keyword arguments win over the URI, so what the URI names itself is left out.
    named = {name.lower() for name, _ in parse_qsl(urlsplit(uri).query)}
    options = {
        name: value for name, value in {**_TUNING, **tuning}.items() if name.lower() not in named
    }
    try:
        return MongoClient(uri, **(options | _FIXED))
    except (PyMongoError, ValueError) as error:
        raise MongoNotConfigured(
            f"MONGODB_URI cannot be used ({error}): set it to a replica set, for example "
            "mongodb://host:27017/instagram_automations?replicaSet=rs0."
        ) from error


def _close() -> None:
    for client in _clients.values():
        client.close()
    _clients.clear()


def _leave_behind_after_fork() -> None:
    global _clients, _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _left_behind.append(_clients)
    _clients = {}


os.register_at_fork(after_in_child=_leave_behind_after_fork)
atexit.register(close)
