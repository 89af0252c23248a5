from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from automations.demo.seed import ACCOUNT_ID, build_automations, build_history
from automations.demo.simulation.plan import KINDS, build_targets
from automations.rules.automation import parse_automation

NOW = datetime(2026, 11, 23, 20, 15, 0, 123456, tzinfo=UTC)


def test_every_automation_can_match_and_sends_something() -> None:
    documents = build_automations(now=NOW)
    automations = [parse_automation(document) for document in documents]
    assert all(automation is not None and automation.steps for automation in automations)
    targets = build_targets(documents, kinds=KINDS)
    assert sorted(target.kind for target in targets) == sorted(KINDS)
    assert {target.account_id for target in targets} == {ACCOUNT_ID}
    # As an older product left them.
    assert not [one for one in documents if {"totalRuns", "lastRunAt"} & one.keys()]


def test_history_fills_the_week_and_no_more() -> None:
    history = build_history(now=NOW)
    assert history == build_history(now=NOW)
    found = {(run["automationId"][-1], run["triggerType"]) for run in history}
    assert found == {("1", "comment_reply"), ("2", "opening_dm"), ("3", "main_dm")}
    times = [run["createdAt"] for run in history]
    assert times == sorted(times)
    assert NOW - timedelta(days=7) <= times[0] < NOW - timedelta(days=6.5)
    assert NOW - timedelta(hours=6) < times[-1] <= NOW
    assert all(moment.microsecond % 1000 == 0 for moment in times)
    assert len(times) > 1000


def test_nobody_runs_twice_within_the_window() -> None:
    times: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    for run in build_history(now=NOW):
        times[run["automationId"], run["userId"]].append(run["createdAt"])
    gaps = [b - a for ones in times.values() for a, b in pairwise(ones)]
    assert gaps
    assert min(gaps) > timedelta(hours=1)
