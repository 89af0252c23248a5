"""What must be true of sending after a run: the fake's own record beside what is stored."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from pymongo.database import Database

from automations.demo.sandbox import Received
from automations.outbox.jobs import JobState, StepState
from automations.outbox.transitions import REPEATED
from tracking.rollups.outcomes import rank_result

Document = dict[str, Any]

_ENDS = {JobState.SENT, JobState.WAITING, JobState.UNKNOWN}
_FINAL = {StepState.SENT, StepState.UNKNOWN, StepState.SKIPPED}


class Verdict(msgspec.Struct):
    """A line for everything that is wrong, and how many sends stayed unknown."""

    lost: list[str]
    twice: list[str]
    unknown: int = 0


def judge(
    database: Database[Document], received: Iterable[Received], event_ids: set[str]
) -> Verdict:
    """Compare. Every text is its step's name, and every person got each step once at most.

    Lost is an event without its trigger, a trigger that does not end, a step without a result, a
    message that counts as sent and that nobody received, or one received that counts as nothing,
    and a result that its run was not told.
    """
    verdict = Verdict([], [])
    delivered = Counter((one.person_id, one.text) for one in received)
    verdict.twice += [f"{key}: {count} times" for key, count in delivered.items() if count > 1]
    triggers = list(database["automation_triggers"].find())
    runs = {run["_id"]: run for run in database["automation_runs"].find()}
    missing = event_ids - {one["_id"].split(":", 2)[2] for one in triggers}
    verdict.lost += [f"event {one} has no trigger" for one in missing]
    accounted: set[tuple[str, str]] = set()
    for trigger in triggers:
        verdict.lost += [f"{trigger['_id']}: {line}" for line in _find_unfinished(trigger)]
        for step, result in (trigger.get("progress") or {}).items():
            key = (trigger["userId"], step)
            state = result["state"]
            verdict.unknown += state == StepState.UNKNOWN
            if state in (StepState.SENT, StepState.UNKNOWN):
                accounted.add(key)
            if state == StepState.SENT and key not in delivered:
                verdict.lost.append(f"{key} counts as sent and was not")
            if result.get("reason") != REPEATED and not _is_told(
                runs.get(trigger.get("runId")), step, result
            ):
                verdict.lost.append(f"{key}: {state} was not told to its run")
    verdict.lost += [
        f"{key} was received and counts as nothing" for key in delivered if key not in accounted
    ]
    return verdict


def _find_unfinished(trigger: Mapping[str, Any]) -> list[str]:
    send = trigger.get("send")
    if send is None:
        return []
    names = [step["name"] for step in send["steps"]]
    state, position = trigger["state"], send.get("position", 0)
    if state not in _ENDS:
        return [f"is {state} at {names[position : position + 1]}"]
    progress = trigger.get("progress") or {}
    # An unknown step stays at its position; what follows it is never sent.
    reached = names[: position + (state == JobState.UNKNOWN)]
    open_steps = [
        name for name in reached
        if name in progress and progress[name]["state"] not in _FINAL
    ]  # fmt: skip
    open_steps += [name for name in reached if name not in progress]
    if state == JobState.SENT and position < len(names):
        open_steps += names[position:]
    if "reportAt" in trigger:
        return [f"its run was not told, {state}"]
    return [f"{name} has no result" for name in open_steps]


def _is_told(run: Mapping[str, Any] | None, step: str, result: Mapping[str, Any]) -> bool:
    """Return whether the run holds the result, or one of another trigger that goes before it."""
    told = {} if run is None else run.get("steps", {}).get(step)
    return bool(told) and rank_result(told) >= rank_result(result)
