"""The bench's own mongod, in a temporary directory, and the databases on it."""

import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pymongo import IndexModel, MongoClient
from pymongo.database import Database

from tracking.embedded import server as embedded

Document = dict[str, Any]
# By the names people know; every candidate, and the floor, writes against the same four.
RUN_INDEXES = (
    IndexModel([("automationId", 1), ("createdAt", -1)], name="automationId_createdAt"),
    IndexModel(
        [("automationId", 1), ("userId", 1), ("createdAt", -1)],
        name="automationId_userId_createdAt",
    ),
    IndexModel([("workspaceId", 1), ("createdAt", -1)], name="workspaceId_createdAt"),
    IndexModel([("createdAt", 1)], name="createdAt_ttl", expireAfterSeconds=90 * 86_400),
)
AUTOMATION_INDEXES = (
    IndexModel([("accountId", 1), ("isActive", 1)], name="accountId_isActive"),
    IndexModel([("workspaceId", 1), ("createdAt", -1)], name="workspaceId_createdAt"),
)


class Server:
    """One mongod for the whole run; every candidate of every row has a database of its own."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="bench-"))
        uri = urlsplit(embedded.ensure_running(self.directory / "mongodb"))
        self._netloc = uri.netloc
        self._replica_set = parse_qs(uri.query)["replicaSet"][0]
        self.client: MongoClient[Document] = MongoClient(
            self.build_uri("admin"), tz_aware=True, appname="bench"
        )
        status = self.client.admin.command("serverStatus")
        self.pid, self.version = int(status["pid"]), str(status["version"])
        self._made = 0

    def create_database(self, automations: list[Document], *, has_indexes: bool = True) -> str:
        """Return the name of a new database with these automations and the peers' indexes."""
        self._made += 1
        database = self.client[f"bench_{self._made:03d}"]
        database.create_collection("automation_runs")
        database["automations"].insert_many([dict(document) for document in automations])
        database["automations"].create_indexes(list(AUTOMATION_INDEXES))
        if has_indexes:
            database["automation_runs"].create_indexes(list(RUN_INDEXES))
        return database.name

    def get_database(self, name: str) -> Database[Document]:
        return self.client[name]

    def build_uri(self, database: str) -> str:
        """Return the URI that every candidate gets: majority and journal for everyone."""
        return (
            f"mongodb://{self._netloc}/{database}"
            f"?replicaSet={self._replica_set}&w=majority&journal=true"
        )

    def drop_database(self, name: str) -> None:
        self.client.drop_database(name)

    def write_checkpoint(self) -> None:
        """Write what is dirty now, so that one candidate's pages are not another's work."""
        self.client.admin.command("fsync")

    def stop(self) -> None:
        self.client.close()
        embedded.stop(self.directory / "mongodb")
        shutil.rmtree(self.directory, ignore_errors=True)
