"""Lanes decide which account may send now, and how much.

A lane is an account and a way to send, so that taps do not queue behind a viral post's private
replies. One atomic update refills its bucket (automations/outbox/rate_limits.py), takes tokens and
sets the lane's next turn. The lane whose turn is due longest goes first; a served lane goes behind
all that wait.
"""

import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec
from pymongo import ReturnDocument, UpdateOne, WriteConcern
from pymongo.database import Database

from automations.outbox.jobs import DM, LONG_AGO, VIAS, Document
from automations.outbox.rate_limits import (
    MAIN,
    PACE,
    READS,
    build_fill,
    build_now,
    build_take_read,
    in_ms,
)
from tracking.mongo.errors import bounded

LANES = "automation_lanes"
# The most that clocks of hosts may differ; /readyz reports more.
_CLOCK_MARGIN = timedelta(seconds=2)
_FULL_LOOK_SECONDS = 1.0

_SECONDS = 5.0
# These writes need not wait for the majority. The oplog is ordered, and `begin_sending`, which
# comes between a token or a lease and its call, waits until all earlier writes are safe.
QUICK = WriteConcern(w=1, j=False)
# Error 613 does not say for how long, so it is a minute, then twice that, up to an hour.
_FIRST_BACK_OFF = timedelta(minutes=1)
_LONGEST_BACK_OFF = timedelta(hours=1)
_FORGIVEN_AFTER = timedelta(minutes=10)

_LATER_TURN = {"$max": ["$turnAt", "$backOffUntil"]}
_PUT_OFF_TURN: Document = {
    "$set": {"turnAt": {"$cond": [{"$gt": ["$turnAt", None]}, _LATER_TURN, "$$REMOVE"]}}
}


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A lane's turn, for at most `granted` messages; `at` is the server's time."""

    account_id: str
    via: str
    granted: int
    at: datetime
    next_at: datetime


class LaneStore:
    """Access to `automation_lanes`. Every method raises TrackingUnavailable.

    `now` is for tests with a clock of their own; None is the server's time.
    """

    def __init__(self, database: Database[Document]) -> None:
        self._lanes = database[LANES].with_options(write_concern=QUICK)
        self._floor = LONG_AGO
        self._full_look_at = 0.0

    def open_lanes(self, via: str, account_ids: Iterable[str], *, now: datetime) -> int:
        """Give a turn to each of these accounts without one; return how many."""
        wanted = {build_lane_id(account_id, via): account_id for account_id in account_ids}
        if not wanted:
            return 0
        with bounded(_SECONDS):
            # The index covers it, with one key per lane that has work.
            found = self._lanes.find({"turnAt": {"$gt": LONG_AGO}}, {"_id": 1}, batch_size=100_000)
            missing = wanted.keys() - {document["_id"] for document in found}
            turn_at = {"$ifNull": ["$turnAt", {"$max": [now, "$backOffUntil"]}]}
            writes = []
            for lane_id in sorted(missing):
                fields = {"accountId": wanted[lane_id], "via": via, "turnAt": turn_at}
                writes.append(UpdateOne({"_id": lane_id}, [{"$set": fields}], upsert=True))
            if writes:
                self._lanes.bulk_write(writes, ordered=False)
            if self._floor == LONG_AGO:
                self._full_look_at = 0.0
        return len(writes)

    def take_turn(self, *, want: int, now: datetime | None = None) -> Turn | None:
        """Take up to `want` tokens of the lane that is due longest; None if none is due.

        For one thread. MongoDB keeps old index keys for five minutes for its snapshots, and
        skipping the taken turns gets slower with each. No lane is due before the last one that
        was, so the search starts there. Once a second it starts at the beginning, because a clock
        that is behind may have set an earlier turn.
        """
        turn = self._take_turn(self._floor, want, now) if self._floor > LONG_AGO else None
        if turn is not None:
            return turn
        if now is None and time.monotonic() < self._full_look_at:
            return None
        self._full_look_at = time.monotonic() + _FULL_LOOK_SECONDS
        return self._take_turn(LONG_AGO, want, now)

    def _take_turn(self, floor: datetime, want: int, now: datetime | None) -> Turn | None:
        moment = build_now(now)
        query = {"turnAt": {"$gt": floor}, "$expr": {"$lte": ["$turnAt", moment]}}
        next_token = {"$add": ["$givenUntil", PACE]}
        update: list[Document] = [
            {"$set": {"dueAt": "$turnAt", "servedAt": moment}},
            *build_fill(want, moment),
            {"$set": {"turnAt": {"$max": [moment, next_token, "$backOffUntil"]}}},
        ]
        with bounded(_SECONDS):
            lane = self._lanes.find_one_and_update(
                query, update, sort={"turnAt": 1}, return_document=ReturnDocument.AFTER
            )
        if lane is None:
            return None
        self._floor = lane["dueAt"] - _CLOCK_MARGIN
        return Turn(
            account_id=lane["accountId"],
            via=lane["via"],
            granted=int(lane["granted"]),
            at=lane["servedAt"],
            next_at=lane["turnAt"],
        )

    def take(self, account_id: str, via: str, *, now: datetime | None = None) -> datetime | None:
        """Take one token outside a turn; return None, or when the next one is there."""
        lane = self._change(account_id, via, build_fill(1, build_now(now)))
        given_until: datetime = lane["givenUntil"]
        return None if lane["granted"] else given_until + MAIN[via].pace

    def take_read(
        self, account_id: str, *, is_expected: bool, now: datetime | None = None
    ) -> datetime | None:
        """Take a profile read; return None, or when to come back with `is_expected`."""
        update = build_take_read(build_now(now), is_expected=is_expected)
        lane = self._change(account_id, DM, update)
        if lane["granted"]:
            return None
        given_until: datetime = lane["readsGivenUntil"]
        next_at = given_until + READS.pace
        return next_at if is_expected else max(next_at, lane["readsPromisedUntil"])

    def end_turn(self, turn: Turn, *, unused: int, is_empty: bool) -> None:
        """Give back unused tokens; a lane without work has no turn until it is opened."""
        is_ours = {"$eq": ["$turnAt", turn.next_at]}
        turn_at = {"$cond": [is_ours, "$$REMOVE", "$turnAt"]} if is_empty else "$turnAt"
        self.give_back(turn.account_id, turn.via, count=unused, turnAt=turn_at)

    def rest(self, turn: Turn, *, until: datetime) -> None:
        self.give_back(turn.account_id, turn.via, count=turn.granted, turnAt=until)

    def give_back(self, account_id: str, via: str, *, count: int = 1, **changes: Any) -> None:
        given_until = {"$subtract": ["$givenUntil", in_ms(count * MAIN[via].pace)]}
        update = [{"$set": {"givenUntil": given_until, **changes}}]
        with bounded(_SECONDS):
            self._lanes.update_one({"_id": build_lane_id(account_id, via)}, update)

    def back_off(
        self, account_id: str, *, at_least: timedelta = timedelta(0), now: datetime | None = None
    ) -> datetime:
        """Stop every lane of the account for a while and return until when.

        Each time is longer, from a minute to an hour, unless `at_least` is more. Errors of
        concurrent calls count once.
        """
        moment = build_now(now)
        is_waiting = {"$gt": ["$backOffUntil", moment]}
        recent = {"$subtract": [moment, in_ms(_FORGIVEN_AFTER)]}
        is_again = {"$gt": ["$backOffUntil", recent]}
        strikes = {"$cond": [is_again, {"$add": ["$strikes", 1]}, 0]}
        wait = {"$multiply": [in_ms(_FIRST_BACK_OFF), {"$pow": [2, {"$min": ["$strikes", 10]}]}]}
        bounded_wait = {"$max": [in_ms(at_least), {"$min": [wait, in_ms(_LONGEST_BACK_OFF)]}]}
        end = {"$cond": [is_waiting, "$backOffUntil", {"$add": [moment, bounded_wait]}]}
        update: list[Document] = [
            {"$set": {"strikes": {"$cond": [is_waiting, "$strikes", strikes]}}},
            {"$set": {"backOffUntil": end}},
            _PUT_OFF_TURN,
        ]
        until: datetime = max(self._change(account_id, via, update)["backOffUntil"] for via in VIAS)
        return until

    def slow_down(self, account_id: str, *, wait: timedelta, now: datetime | None = None) -> None:
        """Make every lane of the account wait from now on, as a precaution."""
        until = {"$max": ["$backOffUntil", {"$add": [build_now(now), in_ms(wait)]}]}
        for via in VIAS:
            self._change(account_id, via, [{"$set": {"backOffUntil": until}}, _PUT_OFF_TURN])

    def _change(self, account_id: str, via: str, update: list[Document]) -> Document:
        named: Document = {"$set": {"accountId": account_id, "via": via}}
        with bounded(_SECONDS):
            lane: Document | None = self._lanes.find_one_and_update(
                {"_id": build_lane_id(account_id, via)},
                [named, *update],
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        return lane or {}


def build_lane_id(account_id: str, via: str) -> str:
    return f"{via}:{account_id}"
