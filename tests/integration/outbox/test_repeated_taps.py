"""The same button tapped twice: one of the taps is answered, as long as its answer came."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database

from automations.instagram.limits import MESSAGE_WINDOW
from automations.outbox.jobs import PRIVATE_REPLY, parse_job
from automations.outbox.reporting import list_results
from tests.support.outbox_fakes import (
    ASK,
    MAIN,
    FakeGraph,
    Rig,
    make_comment_document,
    make_error,
    make_job_document,
)
from tests.support.triggers import T0

SECOND = timedelta(seconds=1)


@pytest.fixture
def rig(db: Database[dict[str, Any]]) -> Rig:
    """A comment whose opening message was sent: the button under it may be tapped."""
    rig = Rig(db)
    comment = make_comment_document(_id="acc1:comment:c1", userId="p")
    rig.add(comment | {"state": "waiting", "send": comment["send"] | {"position": 2}})
    rig.db["automation_triggers"].update_one({"_id": "acc1:comment:c1"}, {"$unset": {"nextAt": 1}})
    rig.graph.follows = True
    return rig


def tap(
    rig: Rig, mid: str, *, continues: str = "acc1:comment:c1", at: datetime = T0,
    steps: Sequence[Any] = (MAIN,), root_id: str | None = None,
) -> str:  # fmt: skip
    """A tap as the webhook stores it."""
    send = {"steps": list(steps), "rootId": root_id or continues}
    document = make_job_document(_id=f"acc1:message:{mid}", userId="p", created_at=at, send=send)
    return rig.add(document | {"continues": continues, "outcome": "continuation", "runId": 1})


def test_the_second_tap_sends_nothing(rig: Rig) -> None:
    tap(rig, "m1")
    second = tap(rig, "m2")
    rig.worker.drain(now=T0)
    assert rig.graph.sent == [("dm", "main_dm")]
    third = tap(rig, "m3", at=T0 + SECOND)
    rig.worker.drain(now=T0 + SECOND)
    assert rig.graph.sent == [("dm", "main_dm")]
    ends = [rig.find(job_id)["progress"]["main_dm"] for job_id in (second, third)]
    assert {(end["state"], end["reason"]) for end in ends} == {("skipped", "repeated")}
    assert rig.find(third)["state"] == "sent"
    assert "nextAt" not in rig.find(third)


def test_the_run_is_told_of_the_answer_alone(rig: Rig) -> None:
    tap(rig, "m1", steps=(ASK, MAIN))
    tap(rig, "m2", steps=(ASK, MAIN))
    rig.worker.drain(now=T0)
    rig.worker.drain(now=T0 + SECOND)  # one look at a profile a second
    assert sorted(set(rig.outcomes())) == [("ask_follow", "skipped"), ("main_dm", "sent")]
    for job_id in ("acc1:message:m1", "acc1:message:m2"):
        results = list_results(parse_job(rig.find(job_id)))
        assert "repeated" not in [one.reason for one in results.values()]


def test_people_are_asked_to_follow_once_for_each_message(rig: Rig) -> None:
    rig.graph.follows = False
    tap(rig, "m1", steps=(ASK, MAIN))
    tap(rig, "m2", steps=(ASK, MAIN))
    rig.worker.drain(now=T0)
    rig.worker.drain(now=T0 + SECOND)
    assert rig.graph.sent == [("dm", "ask_follow")]
    # Whoever follows by now is answered, also under the message that was tapped before.
    rig.graph.follows = True
    tap(rig, "m3", at=T0 + 2 * SECOND, steps=(ASK, MAIN))
    rig.worker.drain(now=T0 + 2 * SECOND)
    assert rig.graph.sent == [("dm", "ask_follow"), ("dm", "main_dm")]


def test_the_main_message_comes_once_on_whatever_way(rig: Rig) -> None:
    rig.graph.follows = False
    asked = tap(rig, "m1", steps=(ASK, MAIN))
    waiting = tap(rig, "m2", steps=(ASK, MAIN))  # for its turn to look at the profile
    rig.worker.drain(now=T0)
    if rig.find(asked)["state"] == "queued":
        asked, waiting = waiting, asked
    assert rig.graph.sent == [("dm", "ask_follow")]
    rig.graph.follows = True
    tap(rig, "m3", continues=asked, root_id="acc1:comment:c1", at=T0, steps=(ASK, MAIN))
    for seconds in range(1, 4):
        rig.worker.drain(now=T0 + seconds * SECOND)
    assert rig.graph.sent[1:] == [("dm", "main_dm")]


def test_a_tap_a_day_later_is_answered_again(rig: Rig) -> None:
    tap(rig, "m1")
    rig.worker.drain(now=T0)
    early, late = T0 + MESSAGE_WINDOW - SECOND, T0 + MESSAGE_WINDOW
    tap(rig, "m2", at=early)
    rig.worker.drain(now=early)
    assert len(rig.graph.journal) == 1
    tap(rig, "m3", at=late)
    rig.worker.drain(now=late)
    assert len(rig.graph.journal) == 2


@pytest.mark.parametrize(
    ("happens", "state"),
    [(make_error("PERMANENT", code=551), "failed"), ("reply lost", "unknown")],
)
def test_only_a_tap_whose_answer_was_refused_is_no_reason_to_be_silent(
    rig: Rig, happens: Any, state: str
) -> None:
    rig.graph.script = [happens]
    first = tap(rig, "m1")
    rig.worker.drain(now=T0)
    assert rig.find(first)["state"] == state
    came = len(rig.graph.journal)
    for seconds in (1, 2):
        tap(rig, f"m{seconds + 1}", at=T0 + seconds * SECOND)
        rig.worker.drain(now=T0 + seconds * SECOND)
        assert rig.graph.sent == [("dm", "main_dm")]
    assert came == (state == "unknown")


def test_one_that_was_put_off_is_still_the_one_that_answers(rig: Rig) -> None:
    rig.graph.script = [make_error("NOT_SENT")]
    first = tap(rig, "m1")
    rig.worker.drain(now=T0)
    assert rig.find(first)["state"] == "queued"
    tap(rig, "m2", at=T0)
    rig.worker.drain(now=T0)
    assert rig.graph.sent == []
    rig.worker.drain(now=T0 + 60 * SECOND)
    assert rig.graph.sent == [("dm", "main_dm")]
    assert rig.find(first)["state"] == "sent"


def test_taps_on_other_messages_are_answered_also_where_the_trigger_is_gone(rig: Rig) -> None:
    other = make_comment_document(_id="acc1:comment:c2", userId="p", state="waiting")
    del other["nextAt"]
    rig.add(other)
    for number, comment_id in enumerate(("c1", "c2", "long gone")):
        tap(rig, f"m{number}", continues=f"acc1:comment:{comment_id}")
    rig.worker.drain(now=T0)
    assert rig.graph.sent == [("dm", "main_dm")] * 3


def test_what_no_tap_has_made_claims_nothing(rig: Rig) -> None:
    rig.add(make_job_document(), make_comment_document(MAIN))
    rig.worker.drain(now=T0)
    assert len(rig.graph.journal) == 2
    claims = {"claims": {"$exists": True}, "send.via": {"$ne": PRIVATE_REPLY}}
    assert rig.db["automation_triggers"].count_documents(claims) == 0


def test_many_taps_at_once_in_many_workers_are_answered_once(
    db: Database[dict[str, Any]], rig: Rig
) -> None:
    graph = FakeGraph(follows=True)
    rigs = [Rig(db, graph=graph) for _ in range(4)]
    for number in range(20):
        tap(rig, f"m{number}")
    with ThreadPoolExecutor(len(rigs)) as pool:
        list(pool.map(lambda one: one.worker.drain(now=T0), rigs))
    rig.worker.drain(now=T0)
    assert graph.sent + rig.graph.sent == [("dm", "main_dm")]
