"""Makes a freshly started mongod the primary of its own single-node replica set."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from tracking.embedded.mongod import HOST

_POLL_SECONDS = 0.01
# replSetInitiate on a node that has a configuration, which may still be loading.
_ALREADY_INITIALIZED = 23


def ensure_primary(*, port: int, replica_set: str, is_given_up: Callable[[], bool]) -> bool:
    """Initiate the set, or move it to this port, and wait for its primary.

    Returns False as soon as `is_given_up()` says so: mongod ended, or time is up.
    """
    while not _is_open(port):
        if is_given_up():
            return False
        time.sleep(_POLL_SECONDS)
    with _connect(port) as client:
        while not is_given_up():
            try:
                if _is_primary(client, replica_set):
                    return True
                _repair(client, port=port, replica_set=replica_set)
            except PyMongoError:
                # It is not ready for this command yet; which error says so differs by the moment.
                pass
            time.sleep(_POLL_SECONDS)
    return False


def is_primary(*, port: int, replica_set: str) -> bool:
    """Say whether the primary of this very set answers on the port."""
    if not _is_open(port):
        return False
    try:
        with _connect(port) as client:
            return _is_primary(client, replica_set)
    except PyMongoError:
        return False


def _repair(client: MongoClient[dict[str, Any]], *, port: int, replica_set: str) -> None:
    member = {"_id": 0, "host": f"{HOST}:{port}"}
    config = client["local"]["system.replset"].find_one()
    if config is None:
        try:
            client.admin.command("replSetInitiate", {"_id": replica_set, "members": [member]})
        except OperationFailure as error:
            if error.code != _ALREADY_INITIALIZED:
                raise
    elif config["members"][0]["host"] != member["host"]:
        # Started on another port than the configuration names, the node does not know itself.
        moved = {**config, "version": config["version"] + 1}
        moved["members"] = [{**config["members"][0], **member}]
        client.admin.command("replSetReconfig", moved, force=True)


def _is_primary(client: MongoClient[dict[str, Any]], replica_set: str) -> bool:
    hello = client.admin.command("hello")
    return bool(hello.get("isWritablePrimary")) and hello.get("setName") == replica_set


def _is_open(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _connect(port: int) -> MongoClient[dict[str, Any]]:
    return MongoClient(HOST, port, directConnection=True, serverSelectionTimeoutMS=1000)
