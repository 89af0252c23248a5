"""One whole delivery: parse it, match its events, hand the triggers to tracking."""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from automations.dead_letters import DeadLetter
from automations.definitions import Automation
from automations.events import Event, UnreadableDelivery
from automations.payloads import parse_delivery
from automations.registry import get_dead_letters, get_rules_cache
from tracking import service
from tracking.runs import Outcome, Trigger

# What Meta grants is five seconds; past this it is told to come again.
DEADLINE_SECONDS = 3.0

logger = logging.getLogger("automations")


class DeliverySummary(msgspec.Struct):
    """What became of one delivery: counts by outcome, by reason ignored, and of dead letters."""

    outcomes: Counter[str]
    ignored: Counter[str]
    dead_letters: int = 0


def handle_delivery(body: bytes, *, arrived_at: datetime) -> DeliverySummary:
    """Handle the signed `body` of one POST that arrived at `arrived_at` (UTC, milliseconds).

    Everything in it is committed when this returns. Raises TrackingUnavailable if the database
    was away or too slow: the same delivery may be handled again, nothing happens twice.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        delivery = parse_delivery(body)
    except UnreadableDelivery as error:
        keep_letters([DeadLetter(body, str(error), arrived_at)], deadline=deadline)
        return DeliverySummary(Counter(), Counter(), 1)
    letters = [DeadLetter(part.raw, part.error, arrived_at) for part in delivery.malformed]
    ignored: Counter[str] = Counter({str(k): n for k, n in delivery.ignored.items()})
    events: list[Event] = []
    triggers: list[Trigger] = []
    rules = get_rules_cache().get_rules(
        {event.account_id for event in delivery.events}, seconds=deadline - time.monotonic()
    )
    for event in delivery.events:
        try:
            automation = rules[event.account_id].match(event)
            if automation is None:
                ignored["no_automation"] += 1
                continue
            triggers.append(build_trigger(event, automation, arrived_at=arrived_at))
            events.append(event)
        except Exception as error:  # a bug of ours on one event must not stop the others
            logger.exception("❌ [TRACKING] Event not handled")
            letters.append(_keep_event(event, type(error).__name__, arrived_at))
    # Before the triggers: if these fail, the delivery comes again and the letters are the same.
    keep_letters(letters, deadline=deadline)
    outcomes = service.record_triggers(triggers, seconds=deadline - time.monotonic())
    rejected = [
        _keep_event(event, "cannot be stored", arrived_at)
        for event, outcome in zip(events, outcomes, strict=True)
        if outcome is Outcome.REJECTED
    ]
    keep_letters(rejected, deadline=deadline)
    counts = Counter(outcome.value for outcome in outcomes)
    return DeliverySummary(counts, ignored, len(letters) + len(rejected))


def build_trigger(event: Event, automation: Automation, *, arrived_at: datetime) -> Trigger:
    """Return the trigger of an event that an automation answers, in tracking's plain values."""
    return Trigger(
        account_id=event.account_id,
        kind=event.kind,
        event_id=event.event_id,
        automation_key=automation.key,
        automation_id=automation.id,
        workspace_id=automation.workspace_id,
        trigger_type=automation.trigger_type,
        user_id=event.user_id,
        person_unknown=event.person_unknown,
        arrived_at=arrived_at,
        occurred_at=event.occurred_at,
        metadata=build_metadata(event),
        send=automation.send,
    )


def build_metadata(event: Event) -> dict[str, Any]:
    """Return the run's `metadata`, under the names that the live databases have."""
    metadata: dict[str, Any] = {}
    if event.text is not None:
        metadata["messageText"] = event.text
    if event.media_ids:
        metadata["postId"] = event.media_ids[0]
    if event.story_id is not None:
        metadata["storyId"] = event.story_id
    return metadata


def keep_letters(letters: Sequence[DeadLetter], *, deadline: float) -> None:
    """Store dead letters by `deadline` and say so in the log, without their content."""
    if letters:
        get_dead_letters().insert_letters(letters, seconds=deadline - time.monotonic())
        for letter in letters:
            logger.warning("⚠️ [TRACKING] Delivery kept as dead letter: %s", letter.error)


def _keep_event(event: Event, error: str, arrived_at: datetime) -> DeadLetter:
    return DeadLetter(event.build_envelope(), error, arrived_at)


def summarize_ignored(ignored: Mapping[str, int]) -> str:
    """Return the ignored counts as one line for a log."""
    return ", ".join(f"{reason} {count}" for reason, count in sorted(ignored.items()))
