"""The exactness column: what is stored against what was acknowledged; and what it weighs."""

from typing import Any, NamedTuple

from pymongo.database import Database


class Counts(NamedTuple):
    """Runs stored, the sum of `totalRuns`, and the runs that the acknowledged events make."""

    runs: int
    totals: int | None
    acknowledged: int

    @property
    def is_exact(self) -> bool:
        return self.runs == self.acknowledged and self.totals in (None, self.acknowledged)

    def describe(self) -> str:
        if self.is_exact:
            return f"exact: {self.acknowledged:,}"
        parts = []
        for name, count in (("runs", self.runs), ("totals", self.totals)):
            if count is not None and count != self.acknowledged:
                parts.append(f"{name} {count - self.acknowledged:+,}")
        return f"**wrong**: {', '.join(parts)} of {self.acknowledged:,}"


def read_counts(
    database: Database[dict[str, Any]], *, acknowledged: int, has_totals: bool = True
) -> Counts:
    totals: int | None = None
    if has_totals:
        rows = list(
            database["automations"].aggregate(
                [{"$group": {"_id": None, "sum": {"$sum": "$totalRuns"}}}]
            )
        )
        totals = int(rows[0]["sum"]) if rows else 0
    return Counts(database["automation_runs"].count_documents({}), totals, acknowledged)


def read_bytes_on_disk(database: Database[dict[str, Any]]) -> dict[str, int]:
    """Return what each collection's file and its indexes take, by name; after a checkpoint."""
    sizes = {}
    for name in database.list_collection_names():
        [row] = database[name].aggregate([{"$collStats": {"storageStats": {}}}])
        stats = row["storageStats"]
        sizes[name] = int(stats["storageSize"]) + int(stats["totalIndexSize"])
    return sizes
