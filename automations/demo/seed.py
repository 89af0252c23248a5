"""The workspace of `demo`: three automations and a week of runs, as an older product left them.

Pure: the clock is given. The automations have no run fields and the runs no rollups;
`add_run_indexes` and `add_run_fields` add them, as on any existing database.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from bson import ObjectId

from automations.demo.simulation.personas import Ids, make_ask, make_random
from tracking.clock import truncate_to_milliseconds

WORKSPACE_ID = "demo"
ACCOUNT_ID = "17841460000012345"
HISTORY = timedelta(days=7)


def _build_main(text: str, title: str, path: str) -> dict[str, Any]:
    return {"text": text, "links": [{"title": title, "url": f"https://shop.example.com/{path}"}]}


_AUTOMATIONS: tuple[dict[str, Any], ...] = (
    {
        "_id": ObjectId("6650c0de0000000000000001"),
        "name": "Comment LINK → the lookbook",
        "type": "comment_to_dm",
        "trigger": {"keywords": ["link", "lookbook", "where can I buy"], "match": "contains"},
        "commentReply": {"texts": ["Just sent it to you! 💌", "Check your DMs ✨", "On its way!"]},
        "openingDm": {
            "text": "Hi! Shall I send you the spring lookbook?",
            "button": "Yes, send it",
        },
        "askFollow": {
            "text": "Follow us, so you do not miss the next one 💛",
            "button": "I follow",
        },
        "mainDm": _build_main("Here it is:", "Open the lookbook", "lookbook"),
    },
    {
        "_id": ObjectId("6650c0de0000000000000002"),
        "name": "Story reply → early access",
        "type": "story_reply",
        "trigger": {"keywords": ["early", "yes", "count me in"], "match": "word"},
        "openingDm": {"text": "You are in! Want the link now?", "button": "Give me the link"},
        "mainDm": _build_main("Only for you until Friday:", "Early access", "early"),
    },
    {
        "_id": ObjectId("6650c0de0000000000000003"),
        "name": "DM → prices and opening hours",
        "type": "dm_auto_responder",
        "trigger": {"keywords": ["price", "how much", "opening hours"], "match": "contains"},
        "mainDm": _build_main("We are open Monday to Saturday, 10 to 19:", "See prices", "prices"),
    },
)
# By automation: runs in a day, what a small shop gets, and their first step.
_RUNS = ((110, "comment_reply"), (45, "opening_dm"), (30, "main_dm"))
# How much happens in each hour of the day, in UTC: quiet nights, a peak in the evening.
_HOUR_WEIGHTS = (2, 1, 1, 1, 1, 2, 4, 7, 9, 9, 8, 9, 11, 10, 8, 8, 9, 11, 14, 16, 15, 11, 7, 4)
_RETURNING = 0.12


def build_automations(*, now: datetime) -> list[dict[str, Any]]:
    shared = {"workspaceId": WORKSPACE_ID, "accountId": ACCOUNT_ID, "isActive": True}
    times = [truncate_to_milliseconds(now - timedelta(days=days)) for days in (30, 29, 28)]
    return [
        {**document, **shared, "createdAt": created_at, "updatedAt": created_at}
        for document, created_at in zip(_AUTOMATIONS, times, strict=True)
    ]


def build_history(*, now: datetime) -> list[dict[str, Any]]:
    """Return the runs of the seven days that end at `now`, oldest first."""
    runs = [run for number in range(len(_AUTOMATIONS)) for run in _build_runs(number, now)]
    return sorted(runs, key=lambda run: run["createdAt"])


def _build_runs(position: int, now: datetime) -> Iterator[dict[str, Any]]:
    document, (per_day, trigger_type) = _AUTOMATIONS[position], _RUNS[position]
    automation_id = str(document["_id"])
    rng = make_random("history", automation_id)
    ids = Ids(rng.getrandbits(32))
    times = sorted(_pick_time(rng, now=now) for _ in range(per_day * HISTORY.days))
    last_run_of: dict[int, datetime] = {}
    for number, created_at in enumerate(times):
        person = number
        if rng.random() < _RETURNING:
            earlier = rng.randrange(number + 1)
            # An hour must lie between two runs of a person; a day looks more like people.
            if created_at - last_run_of.get(earlier, created_at) > timedelta(days=1):
                person = earlier
        last_run_of[person] = created_at
        user_id, _ = ids.make_person(ACCOUNT_ID, person)
        post_id = f"1790000000000{rng.randrange(12):04}"
        story_id = f"1800000000000{rng.randrange(3):04}"
        yield {
            "automationId": automation_id,
            "workspaceId": WORKSPACE_ID,
            "triggerType": trigger_type,
            "userId": user_id,
            "metadata": {
                "messageText": make_ask(rng, **document["trigger"]),
                "postId": post_id if document["type"] == "comment_to_dm" else None,
                "storyId": story_id if document["type"] == "story_reply" else None,
                "conversationId": None,
            },
            "createdAt": created_at,
        }


def _pick_time(rng: Random, *, now: datetime) -> datetime:
    """Return a time of the last seven days, more often in hours in which people are awake."""
    while True:
        moment = now - HISTORY * rng.random()
        if rng.random() * max(_HOUR_WEIGHTS) <= _HOUR_WEIGHTS[moment.astimezone(UTC).hour]:
            return truncate_to_milliseconds(moment)
