"""Collections, indexes and TTLs are as they are declared."""

from collections.abc import Iterator

from tracking.mongo.indexes import COLLECTIONS, IndexState, compare_indexes, list_indexes
from tracking.verification.findings import Finding, Scope, build_finding, describe_some

_FIX = "run 'python manage.py add_run_indexes'"


def check_indexes(scope: Scope) -> Iterator[Finding]:
    """Name every index that is missing, has other keys, or another time to live."""
    missing = set(COLLECTIONS) - set(scope.database.list_collection_names())
    yield build_finding(
        "collections", f"{len(COLLECTIONS) - len(missing)} of {len(COLLECTIONS)}"
        + (f", missing: {describe_some(missing)}" if missing else ""), "all",
        is_ok=not missing, fix=_FIX,
    )  # fmt: skip
    findings = compare_indexes(scope.database, list_indexes(scope.retention))
    present = sum(one.state is IndexState.PRESENT for one in findings)
    yield build_finding(
        "indexes", f"{present} of {len(findings)}", "all as declared",
        is_ok=present == len(findings), fix="see the next lines",
    )  # fmt: skip
    for one in findings:
        if one.state is IndexState.PRESENT:
            continue
        wanted = one.index.expire_after
        declared = "present" if wanted is None else f"TTL {int(wanted.total_seconds())} s"
        found = one.found.get("expireAfterSeconds", "none")
        figure = f"TTL {found} s" if one.state is IndexState.TTL_DIFFERS else one.state.value
        yield build_finding(
            f"index {one.index.collection}.{one.index.name}", figure, declared,
            is_ok=False, fix=_FIX,
        )  # fmt: skip
