"""What happened in a run, in order. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

import msgspec

from automations.dashboard.formatting import describe_span
from automations.dashboard.labels import JOBS, describe_reason, describe_state, describe_step
from tracking.runs import Outcome

_KINDS = {"comment": "commented", "message": "wrote", "call": "started it by a call"}


class Entry(msgspec.Struct, kw_only=True):
    """One event of a run; `at` is None before it happens."""

    at: datetime | None
    title: str
    detail: str = ""
    quote: str = ""
    tone: str = "quiet"
    after: str = ""


def build_entries(run: Mapping[str, Any], triggers: Sequence[Mapping[str, Any]]) -> list[Entry]:
    created_at = _read_time(run.get("createdAt"))
    entries = [*_list_triggers(run, triggers), *_list_steps(run)]
    known = sorted((entry for entry in entries if entry.at is not None), key=attrgetter("at"))
    for entry in known:
        if entry.at and created_at and entry.at - created_at >= timedelta(seconds=1):
            entry.after = f"{describe_span(entry.at - created_at)} later"
    return [*known, *(entry for entry in entries if entry.at is None)]


def _list_triggers(
    run: Mapping[str, Any], triggers: Sequence[Mapping[str, Any]]
) -> Iterator[Entry]:
    if not any(_find_outcome(one) == Outcome.COUNTED.value for one in triggers):
        yield Entry(
            at=_read_time(run.get("createdAt")),
            title="The run was counted",
            quote=_read_text(run.get("metadata")),
            tone="ok",
        )
    for trigger in triggers:
        yield _build_trigger(trigger, run)
        job = JOBS.get(str(trigger.get("state")))
        if job is not None:
            yield Entry(at=None, title=f"{_name_next(trigger)} {job}")


def _build_trigger(trigger: Mapping[str, Any], run: Mapping[str, Any]) -> Entry:
    at = _read_time(trigger.get("createdAt"))
    kind = str(trigger.get("_id", "")).split(":")[1:2]
    did = _KINDS.get(kind[0] if kind else "", "wrote")
    outcome = _find_outcome(trigger)
    if outcome == Outcome.CONTINUATION.value:
        return Entry(at=at, title="The person tapped a button", detail="and continued the run")
    if outcome == Outcome.DUPLICATE.value:
        detail = "within the hour, so it was answered but not counted"
        return Entry(at=at, title=f"The same person {did} again", detail=detail)
    # The words of a counted event are kept with its run.
    return Entry(
        at=at,
        title=f"A person {did}",
        detail="and the run was counted",
        quote=_read_text(run.get("metadata")),
        tone="ok",
    )


def _find_outcome(trigger: Mapping[str, Any]) -> Any:
    # It is written a moment after the run is.
    is_tap = trigger.get("continues") is not None
    return trigger.get("outcome", (Outcome.CONTINUATION if is_tap else Outcome.COUNTED).value)


def _list_steps(run: Mapping[str, Any]) -> Iterator[Entry]:
    steps = run.get("steps")
    for name, result in steps.items() if isinstance(steps, Mapping) else ():
        if not isinstance(result, Mapping):
            continue
        tone, state = describe_state(result.get("state"))
        reason = describe_reason(
            result.get("reason"), code=result.get("code"), subcode=result.get("subcode")
        )
        yield Entry(
            at=_read_time(result.get("at")),
            title=f"{describe_step(name)} {state}",
            detail=reason,
            tone=tone,
        )
    completed_at = _read_time(run.get("completedAt"))
    if completed_at is not None:
        yield Entry(at=completed_at, title="The run was completed", tone="ok")


def _name_next(trigger: Mapping[str, Any]) -> str:
    send = trigger.get("send")
    if isinstance(send, Mapping):
        steps, position = send.get("steps"), send.get("position", 0)
        if isinstance(steps, list) and isinstance(position, int) and position < len(steps):
            return describe_step(steps[position].get("name"))
    return "The rest"


def _read_text(metadata: Any) -> str:
    text = metadata.get("messageText") if isinstance(metadata, Mapping) else None
    return text if isinstance(text, str) else ""


def _read_time(value: Any) -> datetime | None:
    return value if isinstance(value, datetime) else None
