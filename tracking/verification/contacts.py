"""Contacts, the claims that hold the window, agree with the runs of their pairs."""

from collections.abc import Iterator
from datetime import timedelta

from tracking.contact_store import ContactStore
from tracking.drift_store import DriftStore
from tracking.verification.findings import Finding, Scope, build_finding, describe_some
from tracking.verification.sample import list_sample

_RUNS = 500


def check_contacts(scope: Scope) -> Iterator[Finding]:
    """Compare the pairs of each automation's newest runs, or all, a batch at a snapshot."""
    store = ContactStore(scope.database)
    drift = DriftStore(scope.database, now=scope.now)
    oldest = drift.find_first_hour(scope.retention or timedelta.max)
    wrong: dict[str, int] = {}
    count = 0
    for automation_id, _ in list_sample(scope):
        for people in store.list_people(automation_id, newest=None if scope.is_full else _RUNS):
            changes = store.measure(automation_id, people, oldest=oldest)
            count += len(people)
            if changes:
                wrong[automation_id] = wrong.get(automation_id, 0) + len(changes)
    named = describe_some(f"{pairs} of {one}" for one, pairs in wrong.items())
    yield build_finding(
        "contacts against runs", f"{sum(wrong.values())} of {count} differ"
        + (f": {named}" if named else ""), "0", is_ok=not wrong,
        fix="run 'python manage.py reconcile_runs', which shows and repairs it",
    )  # fmt: skip
