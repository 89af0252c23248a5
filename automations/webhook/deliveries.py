"""One whole delivery: parse it, match its events, read its taps, store its triggers."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from automations.accounts import accounts
from automations.instagram.buttons import parse_payload
from automations.instagram.events import Event, UnreadableDelivery
from automations.instagram.payloads import parse_delivery
from automations.outbox.echoes import settle_echoes
from automations.outbox.jobs import build_send, build_tap_send
from automations.rules.cache import get_rules_cache
from automations.rules.matching import AccountRules
from automations.rules.store import parse_key
from automations.webhook.dead_letters import DeadLetter, build_letter, keep_letters
from tracking import service
from tracking.exceptions import TrackingUnavailable
from tracking.ids import parse_trigger_id
from tracking.runs import Outcome, Trigger

# Meta waits 5 s. We answer within 3 s, minus 0.1 s for the round trip: in an election every request
# wakes at the same moment.
DEADLINE_SECONDS = 2.9

logger = logging.getLogger("automations")


class DeliverySummary(msgspec.Struct):
    """What became of one delivery: counts by outcome, by reason ignored, and of dead letters."""

    outcomes: Counter[str]
    ignored: Counter[str]
    dead_letters: int = 0


def handle_delivery(body: bytes, *, arrived_at: datetime) -> DeliverySummary:
    """Handle the signed `body` of one POST that arrived at `arrived_at` (UTC, milliseconds).

    Its triggers are committed when this returns, and are counted and sent afterwards; in the
    ordinary case that insert is all that the database is asked for. A dead letter is handled with
    its first arrival. Raises TrackingUnavailable if the database was unavailable or too slow: the
    same delivery may be handled again, nothing happens twice.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        delivery = parse_delivery(body)
    except UnreadableDelivery as error:
        keep_letters([DeadLetter(body, str(error), arrived_at)], deadline=deadline)
        return DeliverySummary(Counter(), Counter(), 1)
    work = _Work(arrived_at=arrived_at)
    work.letters += [DeadLetter(part.raw, part.error, arrived_at) for part in delivery.malformed]
    rules = get_rules_cache().get_rules(
        {event.account_id for event in delivery.events}, seconds=deadline - time.monotonic()
    )
    match = partial(build_trigger, rules=rules, arrived_at=arrived_at)
    work.add(delivery.events, match, otherwise="no_automation")
    carry_on = partial(build_continuation, arrived_at=arrived_at)
    work.add(delivery.taps, carry_on, otherwise="forged_tap")
    # Before the triggers: if these fail, the delivery comes again and the letters are the same.
    if work.letters:
        keep_letters(work.letters, deadline=deadline)
    outcomes = service.record_triggers(work.triggers, seconds=deadline - time.monotonic())
    rejected: list[DeadLetter] = []
    redelivered: Counter[str] = Counter()
    for event, outcome in zip(work.events, outcomes, strict=True):
        if outcome is Outcome.REJECTED:
            rejected.append(build_letter(event, "cannot be stored", arrived_at))
        elif outcome is Outcome.REDELIVERED:
            redelivered[event.account_id] += 1
    if rejected and not keep_letters(rejected, deadline=deadline):
        raise TrackingUnavailable("neither triggers nor dead letters can be stored")
    if delivery.echoes:
        settle_echoes(delivery.echoes, arrived_at=arrived_at, deadline=deadline)
    accounts.note_webhooks(
        {event.account_id for event in delivery.events} | delivery.ignored_by_account.keys(),
        at=arrived_at,
    )
    # Last: a delivery that comes again is counted when it is done.
    service.note_ignored(
        [delivery.ignored_by_account, work.ignored_by_account],
        redelivered=redelivered,
        at=arrived_at,
    )
    ignored: Counter[str] = Counter({str(k): n for k, n in delivery.ignored.items()})
    for reasons in work.ignored_by_account.values():
        ignored.update(reasons)
    counts = Counter(outcome.value for outcome in outcomes)
    return DeliverySummary(counts, ignored, len(work.letters) + len(rejected))


class _Work(msgspec.Struct, kw_only=True):
    """A delivery on its way: each trigger beside its event, and what came of the other events."""

    arrived_at: datetime
    events: list[Event] = []
    triggers: list[Trigger] = []
    letters: list[DeadLetter] = []
    ignored_by_account: dict[str, Counter[str]] = {}

    def add(
        self, events: Sequence[Event], build: Callable[[Event], Trigger | None], *, otherwise: str
    ) -> None:
        """Add the trigger of each event; where there is none, count it under `otherwise`.

        An event that we fail to handle is kept, because a bug on one must not stop the others.
        """
        for event in events:
            try:
                trigger = build(event)
            except Exception as error:
                logger.exception("❌ [TRACKING] Event not handled")
                self.letters.append(build_letter(event, type(error).__name__, self.arrived_at))
                continue
            if trigger is None:
                self.ignored_by_account.setdefault(event.account_id, Counter())[otherwise] += 1
            else:
                self.triggers.append(trigger)
                self.events.append(event)


def build_trigger(
    event: Event, *, rules: Mapping[str, AccountRules], arrived_at: datetime
) -> Trigger | None:
    """Return the trigger of an event, None if no automation answers it."""
    automation = rules[event.account_id].match(event)
    if automation is None:
        return None
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
        send=build_send(event, automation, arrived_at=arrived_at),
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


def build_continuation(event: Event, *, arrived_at: datetime) -> Trigger | None:
    """Return the trigger of a tap, which carries a run on; None if the tap is forged.

    It is also forged if it was made for another account. Nothing is read for it. The worker that
    claims it looks up the steps that are left, and its workspace (automations/outbox/taps.py).
    """
    payload = parse_payload(event.payload or "")
    if payload is None or payload.trigger_id.count(":") < 2:
        return None
    if parse_trigger_id(payload.trigger_id)[0] != event.account_id:
        return None
    return Trigger(
        account_id=event.account_id,
        kind=event.kind,
        event_id=event.event_id,
        automation_key=payload.automation_id,
        automation_id=payload.automation_id,
        workspace_id="",
        trigger_type=payload.step,
        user_id=event.user_id,
        arrived_at=arrived_at,
        occurred_at=event.occurred_at,
        metadata={},
        send=build_tap_send(payload.step, arrived_at=arrived_at),
        continues=payload.trigger_id,
        run_id=parse_key(payload.run_id),
    )
