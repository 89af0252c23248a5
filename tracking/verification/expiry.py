"""The TTL really deletes: nothing is much older than it may become."""

from collections.abc import Iterator
from datetime import timedelta

from tracking.mongo.indexes import list_indexes
from tracking.verification.findings import Finding, Scope, build_finding

# MongoDB looks once a minute; a backlog after `add_run_indexes` takes longer.
MARGIN = timedelta(hours=1)
_MOST = 100_000


def check_expiry(scope: Scope) -> Iterator[Finding]:
    """Count what is past its time to live, at most 100,000 of each."""
    total, worst = 0, ""
    for index in list_indexes(scope.retention):
        if index.expire_after is None:
            continue
        [(field, _)] = index.keys
        oldest = scope.now - index.expire_after - MARGIN
        late = scope.database[index.collection].count_documents(
            {field: {"$lt": oldest}}, limit=_MOST
        )
        total += late
        worst += f", {late} of {index.collection}" if late else ""
    yield build_finding(
        "documents past their TTL", f"{total}{worst}", "0, an hour late at most",
        is_ok=not total,
        fix="a backlog after add_run_indexes is deleted within hours; else look at "
        "db.adminCommand({getParameter: 1, ttlMonitorEnabled: 1})",
    )  # fmt: skip
