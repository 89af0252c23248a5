"""What a trigger has to send: the `send` of its document, frozen when the event arrives.

{"steps": [contents in order], "position": 0, "via": "private_reply" | "dm",
 "commentId"?, "isLive"?, "windowEndsAt", "tapped"?, "rootId"?}

That of a tap names the step that was `tapped`; its steps come later (automations/outbox/taps.py).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from automations.instagram.events import Event
from automations.instagram.limits import COMMENT_WINDOW, LIVE_WINDOW, MESSAGE_WINDOW
from automations.outbox.jobs import DM, PRIVATE_REPLY
from automations.rules.automation import Automation
from automations.rules.steps import ASK_FOLLOW, STEPS_BY_TYPE

# The longest sequence holds all others.
_PLACES = {name: place for place, name in enumerate(STEPS_BY_TYPE["comment_to_dm"])}

Content = Mapping[str, Any]


def build_send(
    event: Event, automation: Automation, *, arrived_at: datetime
) -> dict[str, Any] | None:
    """Return what the event's trigger has to send, ready for BSON; None if there is nothing.

    The contents are the automation's own, shared by all its triggers: never change them.
    """
    if automation.send is None:
        return None
    send = {"steps": automation.send["steps"], "position": 0}
    if event.kind != "comment":
        return send | {"via": DM, "windowEndsAt": arrived_at + MESSAGE_WINDOW}
    send |= {
        "via": PRIVATE_REPLY,
        "commentId": event.event_id,
        "windowEndsAt": arrived_at + (LIVE_WINDOW if event.is_live else COMMENT_WINDOW),
    }
    if event.is_live:
        send["isLive"] = True
    return send


def build_tap_send(tapped: str, *, arrived_at: datetime) -> dict[str, Any]:
    """Return what a tap under the step `tapped` has to send, whatever that will be."""
    window_ends_at = arrived_at + MESSAGE_WINDOW
    return {"tapped": tapped, "position": 0, "via": DM, "windowEndsAt": window_ends_at}


def list_remaining(steps: Sequence[Content], tapped: str) -> list[Content]:
    """Return the contents that follow a tap under the step `tapped`.

    Under `ask_follow` that is itself again: the tap says "I follow now", which has to be checked.
    """
    place = _PLACES.get(tapped, -1)
    first = place if tapped == ASK_FOLLOW else place + 1
    return [step for step in steps if _PLACES.get(step["name"], first) >= first]
