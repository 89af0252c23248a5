"""find -> insert -> update per event, countDocuments per automation: as published, on pymongo.

Plain WSGI without a framework, so that what it costs is the algorithm. Racy by design.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database

Document = dict[str, Any]

_HOUR = timedelta(hours=1)
_WINDOWS = {"last24Hours": timedelta(hours=24), "last7Days": timedelta(days=7)}
_databases: list[Database[Document]] = []


def application(environ: Document, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer the webhook's POST and the list's GET."""
    if environ["REQUEST_METHOD"] == "POST":
        status, kind, body = _post(environ)
    elif environ["PATH_INFO"].startswith("/api/workspaces/"):
        status, kind, body = _list(environ["PATH_INFO"].split("/")[3])
    else:
        status, kind, body = "200 OK", "text/plain", b"ok"
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


def _post(environ: Document) -> tuple[str, str, bytes]:
    raw = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    secret = os.environ["INSTAGRAM_APP_SECRET"].encode()
    wanted = "sha256=" + hmac.new(secret, raw, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(environ.get("HTTP_X_HUB_SIGNATURE_256", ""), wanted):
        return "403 Forbidden", "text/plain", b""
    database = _get_database()
    for entry in json.loads(raw)["entry"]:
        for user_id, text in _list_comments(entry):
            rules = database["automations"].find({"accountId": entry["id"], "isActive": True})
            for automation in list(rules):
                if any(word in text.lower() for word in automation["trigger"]["keywords"]):
                    _track(database, automation, user_id, text)
    return "200 OK", "text/plain", b"EVENT_RECEIVED"


def _list_comments(entry: Document) -> Iterator[tuple[str, str]]:
    for change in entry.get("changes", ()):
        value = change["value"]
        if change["field"] == "comments" and value["from"]["id"] != entry["id"]:
            yield value["from"]["id"], value.get("text", "")


def _track(database: Database[Document], automation: Document, user_id: str, text: str) -> None:
    runs, automation_id = database["automation_runs"], automation["_id"]
    recent = {"$gte": datetime.now(UTC) - _HOUR}
    pair = {"automationId": automation_id, "userId": user_id}
    if runs.find_one({**pair, "createdAt": recent}):
        return
    now = datetime.now(UTC)
    runs.insert_one({
        **pair,
        "workspaceId": automation["workspaceId"],
        "triggerType": "comment_reply",
        "metadata": {"messageText": text},
        "createdAt": now,
    })  # fmt: skip
    database["automations"].update_one(
        {"_id": automation_id},
        {"$inc": {"totalRuns": 1}, "$set": {"lastRunAt": now, "updatedAt": now}},
    )


def _list(workspace_id: str) -> tuple[str, str, bytes]:
    database = _get_database()
    now = datetime.now(UTC)
    automations = list(database["automations"].find({"workspaceId": workspace_id}))
    for automation in automations:
        automation["stats"] = {"totalRuns": automation["totalRuns"]}
        for name, window in _WINDOWS.items():
            automation["stats"][name] = database["automation_runs"].count_documents(
                {"automationId": automation["_id"], "createdAt": {"$gte": now - window}}
            )
    answer = {"success": True, "automations": automations}
    return "200 OK", "application/json", json.dumps(answer, default=_show).encode()


def _show(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _get_database() -> Database[Document]:
    # At the first request: after the fork.
    if not _databases:
        client: MongoClient[Document] = MongoClient(os.environ["MONGODB_URI"], maxPoolSize=100)
        _databases.append(client.get_default_database())
    return _databases[0]
