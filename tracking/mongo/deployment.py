"""What kind of MongoDB this is, before traffic: refused, warned about, or fine."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pymongo
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from tracking.exceptions import TrackingUnavailable

OLDEST_SUPPORTED = 7
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
_ANSWER_SECONDS = 5.0
# 13 Unauthorized, 18 AuthenticationFailed, 8000 Atlas' own.
_AUTH_CODES = (13, 18, 8000)


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says of itself. `version` is for people, such as 7.0.14."""

    version: str
    major: int
    is_standalone: bool
    has_replica_set_config: bool


def read_server_facts(client: MongoClient[dict[str, Any]]) -> ServerFacts:
    """Ask the server what it is.

    Raises TrackingUnavailable, in a sentence that says what to look at, when it does not answer.
    """
    try:
        with pymongo.timeout(_ANSWER_SECONDS):
            hello: Mapping[str, Any] = client.admin.command("hello")
            version: str = client.admin.command("buildInfo")["version"]
    except OperationFailure as error:
        if error.code in _AUTH_CODES:
            raise TrackingUnavailable(
                "MongoDB refuses the user of MONGODB_URI; check its name, password and authSource."
            ) from error
        raise TrackingUnavailable(f"MongoDB refuses to answer (code {error.code}).") from error
    except PyMongoError as error:
        # The error's text names hosts, and may be long.
        raise TrackingUnavailable(
            f"MongoDB does not answer ({type(error).__name__}); check that it runs and that "
            "MONGODB_URI names it."
        ) from error
    return parse_server_facts(hello, version=version)


def parse_server_facts(hello: Mapping[str, Any], *, version: str) -> ServerFacts:
    """Return the facts in the answer to `hello`.

    https://www.mongodb.com/docs/manual/reference/command/hello/: a member of a replica set has
    `setName`, a mongos `msg: isdbgrid`, a load-balanced service `serviceId`; `isreplicaset` alone
    is a server started with --replSet that waits for its configuration.
    """
    is_cluster = "setName" in hello or hello.get("msg") == "isdbgrid" or "serviceId" in hello
    return ServerFacts(
        version=version,
        major=int(version.partition(".")[0]),
        is_standalone=not is_cluster,
        has_replica_set_config=not hello.get("isreplicaset"),
    )


def find_refusal(facts: ServerFacts) -> str | None:
    """Return the sentence that says why we cannot count on this server and what fixes it."""
    if not facts.is_standalone:
        return None
    if not facts.has_replica_set_config:
        return (
            "This MongoDB waits for its replica set configuration; run rs.initiate() in mongosh "
            "once."
        )
    return (
        "This MongoDB is a standalone server, which has no transactions; start it with "
        "--replSet rs0 and run rs.initiate() in mongosh once (one node is enough, the data stays)."
    )


def list_warnings(facts: ServerFacts, *, uri: str) -> list[str]:
    """Return what works but should change, as sentences; the URI is never quoted."""
    warnings = []
    if facts.major < OLDEST_SUPPORTED:
        warnings.append(
            f"MongoDB {facts.version} is older than {OLDEST_SUPPORTED} and gets no security fixes; "
            f"plan an upgrade to MongoDB {OLDEST_SUPPORTED} or 8."
        )
    if not _is_encrypted_or_local(uri):
        warnings.append(
            "MONGODB_URI does not ask for TLS: passwords and messages cross the network in the "
            "clear; add tls=true."
        )
    return warnings


def _is_encrypted_or_local(uri: str) -> bool:
    if uri.startswith("mongodb+srv://"):  # TLS unless switched off; resolving it asks DNS
        return "tls=false" not in uri and "ssl=false" not in uri
    try:
        parsed = parse_uri(uri)
    except (PyMongoError, ValueError):
        return True  # connecting says better what is wrong with it
    hosts = [host for host, _ in parsed["nodelist"]]
    return bool(parsed["options"].get("tls")) or all(
        host in _LOCAL_HOSTS or host.endswith(".sock") for host in hosts
    )
