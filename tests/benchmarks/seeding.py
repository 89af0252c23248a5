"""Runs as an older product would have left them: bare documents, spread over 60 days."""

import random
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pymongo import UpdateOne, WriteConcern
from pymongo.database import Database

from tests.benchmarks.bench import RUN_INDEXES, Bench, say
from tests.benchmarks.candidates import ROOT, run_command
from tests.benchmarks.workload import Document

_SPREAD = timedelta(days=60)
_BATCH = 10_000
_RUNS_PER_PERSON = 1.5


def seed(
    bench: Bench, automations: list[Document], runs: int, *, roots: Iterable[Path] = (ROOT,)
) -> tuple[dict[Path, Database[Any]], Database[Any], str]:
    """Fill databases with the same runs: one for each commit of ours, brought up to date by it,
    and one for the peers.

    Returns ours by the root of the code, the peers', and how long our `add_run_fields` took.
    """
    began = time.monotonic()
    peers = bench.create_database(automations, has_indexes=False)
    _insert_runs(peers, automations, runs)
    ours, took = {}, ""
    for root in dict.fromkeys(roots):
        ours[root] = bench.create_database(automations, has_indexes=False)
        for name in ("automations", "automation_runs"):
            peers[name].aggregate([{"$out": {"db": ours[root].name, "coll": name}}])
        uri = bench.build_uri(ours[root].name)
        run_command("add_run_indexes", uri=uri, root=root)
        before = time.monotonic()
        run_command("add_run_fields", uri=uri, root=root)
        if root == ROOT:
            took = f"{time.monotonic() - before:.1f} s"
    peers["automation_runs"].create_indexes(RUN_INDEXES)
    say(f"  {runs:,} runs stored in {time.monotonic() - began:.0f} s, add_run_fields took {took}")
    return ours, peers, took


def _insert_runs(database: Database[Any], automations: list[Document], runs: int) -> None:
    # Nobody acknowledges these: the journal can wait.
    collection = database["automation_runs"].with_options(write_concern=WriteConcern(w=1, j=False))
    rng = random.Random(60)
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=5)
    step = _SPREAD / runs
    people = int(runs / len(automations) / _RUNS_PER_PERSON) + 1
    totals: Counter[str] = Counter()
    newest: dict[str, datetime] = {}
    batch: list[dict[str, Any]] = []
    for number in range(runs):
        automation = rng.choice(automations)
        key = automation["_id"]
        at = end - _SPREAD + step * number
        at = at.replace(microsecond=at.microsecond // 1000 * 1000)
        totals[key] += 1
        newest[key] = at
        batch.append({
            "automationId": key,
            "workspaceId": automation["workspaceId"],
            "triggerType": "opening_dm",
            "userId": f"1783{rng.randrange(people):013d}",
            "metadata": {"messageText": "I would love the guide, could you send it please?"},
            "createdAt": at,
        })  # fmt: skip
        if len(batch) == _BATCH or number == runs - 1:
            collection.insert_many(batch, ordered=False)
            batch = []
    database["automations"].bulk_write(
        [
            UpdateOne({"_id": key}, {"$set": {"totalRuns": count, "lastRunAt": newest[key]}})
            for key, count in totals.items()
        ]
    )
