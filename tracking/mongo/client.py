"""The only MongoClient of a process, and the database it works on."""

from __future__ import annotations

import atexit
import os
import threading
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
    "appname": "automation-run-tracking",
    # The webhook has 3 s in all; past this it answers 503 and Meta comes again.
    "serverSelectionTimeoutMS": 2500,
    "connectTimeoutMS": 2000,
    "waitQueueTimeoutMS": 2500,
    # A process writes through one connection; the others are requests that read.
    "maxPoolSize": 50,
}
# What the promises rest on; a URI cannot weaken it.
_FIXED: dict[str, Any] = {"tz_aware": True, "w": "majority", "journal": True}

_lock = threading.Lock()
_client: MongoClient[dict[str, Any]] | None = None
_client_uri = ""
# Clients of the parent process: never closed here, their sockets are shared with it.
_left_behind: list[MongoClient[dict[str, Any]]] = []


def get_client() -> MongoClient[dict[str, Any]]:
    """Return the process's client; made at the first call, and anew after a fork.

    Raises MongoNotConfigured when there is no MongoDB to use or its URI cannot be read,
    TrackingUnavailable when the embedded one does not start. It does not connect: an absent
    server shows at the first command.
    """
    global _client, _client_uri
    uri = conf.mongodb_uri or ensure_running(conf.data_dir)
    client = _client
    if client is not None and uri == _client_uri:
        return client
    with _lock:
        if _client is None or uri != _client_uri:
            _close()
            _client, _client_uri = _build_client(uri), uri
        return _client


def get_database() -> Database[dict[str, Any]]:
    """Return the database that the URI names, `instagram_automations` when it names none."""
    # A count just committed must be in the next answer, whatever the URI prefers to read from.
    return get_client().get_default_database(
        DEFAULT_DATABASE, read_preference=ReadPreference.PRIMARY
    )


def close() -> None:
    """Drop the client; the next call makes a new one."""
    with _lock:
        _close()


def _build_client(uri: str) -> MongoClient[dict[str, Any]]:
    try:
        return MongoClient(uri, **_build_options(uri))
    except (PyMongoError, ValueError) as error:
        raise MongoNotConfigured(
            f"MONGODB_URI cannot be used ({error}): set it to a replica set, for example "
            "mongodb://host:27017/instagram_automations?replicaSet=rs0."
        ) from error


def _build_options(uri: str) -> dict[str, Any]:
    # Keyword arguments win over the URI, so what the URI names itself is left out.
    named = {name.lower() for name, _ in parse_qsl(urlsplit(uri).query)}
    tuning = {name: value for name, value in _TUNING.items() if name.lower() not in named}
    return tuning | _FIXED


def _close() -> None:
    global _client  # noqa: PLW0603
    if _client is not None:
        _client.close()
        _client = None


def _leave_behind_after_fork() -> None:
    global _client, _lock  # noqa: PLW0603
    _lock = threading.Lock()
    if _client is not None:
        _left_behind.append(_client)
        _client = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_behind_after_fork)
atexit.register(close)
