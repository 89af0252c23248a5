"""Jobs sent by one worker, on a clock of the test: what goes out, and what is stored of it."""

from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pymongo.database import Database

from automations.outbox.account_status import find_mode
from tests.support.outbox_fakes import (
    ASK,
    MAIN,
    OPENING,
    PLAIN_OPENING,
    PUBLIC,
    Rig,
    make_account,
    make_comment_document,
    make_error,
    make_job_document,
)
from tests.support.triggers import T0

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


TWO_MESSAGES = make_job_document(send={"steps": [PLAIN_OPENING, MAIN]})


def drain_for(rig: Rig, start: datetime, *, minutes: int) -> datetime:
    """Drain once a minute; return the last of them."""
    for minute in range(minutes + 1):
        rig.worker.drain(now=start + minute * MINUTE)
    return start + minutes * MINUTE


class TestFlows:
    def test_a_comment_is_answered_once_below_it_and_in_private_and_waits(self, rig: Rig) -> None:
        job_id = rig.add(make_comment_document())
        assert rig.worker.drain(now=T0) == 1
        assert rig.graph.sent == [("public", "comment_reply"), ("private", "opening_dm")]
        job = rig.find(job_id)
        assert job["state"] == "waiting"
        assert (job["doneAt"], job["expireAt"]) == (T0, T0 + timedelta(days=7))
        assert job["progress"]["opening_dm"] == {"state": "sent", "at": T0, "mid": "mid2"}
        assert job["mids"] == ["mid1", "mid2"]
        assert job.keys().isdisjoint({"nextAt", "sendingAt", "reportAt"})
        assert "until" not in job["lease"]
        assert rig.outcomes() == [("comment_reply", "sent"), ("opening_dm", "sent")]
        assert rig.worker.drain(now=T0 + HOUR) == 0
        assert len(rig.graph.journal) == 2

    @pytest.mark.parametrize(
        ("follows", "step", "state", "skipped"),
        [
            (True, "main_dm", "sent", "follows"),
            (None, "main_dm", "sent", "unknown"),
            (False, "ask_follow", "waiting", None),
            (make_error("PERMANENT"), "main_dm", "sent", "unknown"),
            (make_error("UNKNOWN"), "main_dm", "sent", "unknown"),
        ],
    )
    def test_after_a_tap(
        self, rig: Rig, follows: Any, step: str, state: str, skipped: str | None
    ) -> None:
        rig.graph.follows = follows
        job_id = rig.add(make_job_document(send={"steps": [ASK, MAIN]}))
        rig.worker.drain(now=T0)
        assert rig.graph.sent == [("dm", step)]
        job = rig.find(job_id)
        assert job["state"] == state
        # A main message that is out, and nothing else, completes the run.
        assert [one.step for one in rig.told if one.is_completed] == ["main_dm"][: state == "sent"]
        if skipped:
            assert job["progress"]["ask_follow"]["reason"] == skipped
            assert rig.outcomes()[0] == ("ask_follow", "skipped")

    def test_a_check_a_second_is_all_and_each_job_comes_back_for_it_once(self, rig: Rig) -> None:
        rig.graph.follows = True
        rig.add(*(make_job_document(send={"steps": [ASK, MAIN]}) for _ in range(8)))
        for second in range(8):
            rig.worker.drain(now=T0 + timedelta(seconds=second))
            assert len(rig.graph.journal) == second + 1
        tokens = [job["lease"]["token"] for job in rig.db["automation_triggers"].find()]
        assert sorted(tokens) == [1, *[2] * 7]
        assert rig.db["automation_triggers"].count_documents({"readAt": {"$exists": True}}) == 0


class TestModes:
    def test_off_keeps_jobs_until_their_window_ends(self, db: Database[dict[str, Any]]) -> None:
        rig = Rig(db, setting="off")
        job_id = rig.add(make_comment_document())
        assert rig.worker.drain(now=T0) == 0
        assert rig.find(job_id)["state"] == "queued"
        rig.worker.drain(now=T0 + timedelta(days=7, minutes=2))
        assert rig.find(job_id)["state"] == "expired"
        assert rig.outcomes() == [("comment_reply", "expired")]
        assert rig.graph.journal == []

    @pytest.mark.parametrize(("setting", "token"), [("shadow", "token"), ("", None)])
    def test_in_shadow_everything_happens_but_the_call(
        self, db: Database[dict[str, Any]], setting: str, token: str | None
    ) -> None:
        rig = Rig(db, setting=setting)
        rig.default_account = make_account(token=token)
        job_id = rig.add(make_comment_document())
        rig.worker.drain(now=T0)
        assert rig.graph.journal == []
        assert rig.find(job_id)["state"] == "shadow"
        assert rig.outcomes() == [("comment_reply", "shadow"), ("opening_dm", "shadow")]
        rig.add(make_job_document())
        rig.worker.drain(now=T0)
        assert (rig.outcomes()[2:], rig.told[2].is_completed) == ([("main_dm", "shadow")], False)

    @pytest.mark.parametrize(
        ("setting", "has_token", "can_send", "mode"),
        [
            ("", True, True, "on"), ("", True, False, "off"), ("", False, False, "shadow"),
            ("on", True, True, "on"), ("on", False, False, "off"),
            ("off", True, True, "off"), ("shadow", True, False, "shadow"),
        ],
    )  # fmt: skip
    def test_modes(self, setting: str, has_token: bool, can_send: bool, mode: str) -> None:
        assert find_mode(setting, has_token=has_token, can_send=can_send) == mode


class TestErrors:
    @pytest.mark.parametrize(
        "name", ["OUTSIDE_WINDOW", "CONFIGURATION", "PERMANENT", "CONFLICT", "ALREADY_REPLIED"]
    )
    def test_a_refusal_fails_the_step_with_its_codes(self, rig: Rig, name: str) -> None:
        rig.graph.script = [make_error(name, code=10)]
        job_id = rig.add(make_job_document())
        rig.worker.drain(now=T0)
        job = rig.find(job_id)
        assert (job["state"], job["progress"]["main_dm"]) == (
            "failed",
            {"state": "failed", "at": T0, "code": 10, "subcode": 100, "reason": name.lower()},
        )
        assert rig.outcomes() == [("main_dm", "failed")]

    @pytest.mark.parametrize("name", ["TOKEN_DEAD", "RESTRICTED"])
    def test_what_pauses_the_account_lets_its_jobs_wait(self, rig: Rig, name: str) -> None:
        failed = partial(REGISTRY.get_sample_value, "graph_errors_total", {"class": name.lower()})
        counted = failed() or 0
        rig.graph.script = [make_error(name)]
        rig.add(*(make_job_document() for _ in range(30)))
        rig.worker.drain(now=T0)
        assert failed() == counted + 1
        states = [job["state"] for job in rig.db["automation_triggers"].find()]
        # Those of the turn under way still went out; here each call but the first worked.
        assert states.count("queued") >= 20
        assert rig.accounts["acc1"].state == name.lower()
        before = len(rig.graph.journal)
        rig.worker.drain(now=T0 + 10 * MINUTE)
        assert len(rig.graph.journal) == before
        rig.accounts.clear()
        drain_for(rig, T0 + 20 * MINUTE, minutes=2)
        assert len(rig.graph.journal) == 30
        assert rig.graph.count_doubles() == 0

    def test_rate_holds_that_account_back_and_no_other(self, rig: Rig) -> None:
        rig.graph.script = [make_error("RATE", code=613, retry_after=300)]
        job_id = rig.add(make_job_document())
        rig.worker.drain(now=T0)
        rig.add(make_job_document(account_id="acc2"), make_job_document())
        rig.worker.drain(now=T0 + MINUTE)
        [other] = rig.db["automation_triggers"].find({"accountId": "acc2"})
        assert [one.to for one in rig.graph.journal] == [other["userId"]]
        rig.worker.drain(now=T0 + 5 * MINUTE)
        assert rig.find(job_id)["state"] == "sent"
        assert len(rig.graph.journal) == 3

    def test_backing_off_takes_longer_each_time(self, rig: Rig) -> None:
        at, waits = T0, []
        for _ in range(8):
            until = rig.lanes.back_off("acc1", now=at)
            assert rig.lanes.back_off("acc1", now=at) == until
            waits.append((until - at) / MINUTE)
            at = until
        assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
        later = at + HOUR
        assert rig.lanes.back_off("acc1", now=later) - later == MINUTE

    @pytest.mark.parametrize(("window", "state"), [(24 * HOUR, "sent"), (MINUTE, "expired")])
    def test_what_was_not_sent_is_tried_again_until_its_window_ends(
        self, rig: Rig, window: timedelta, state: str
    ) -> None:
        rig.graph.script = [make_error("NOT_SENT")] * (3 if state == "sent" else 50)
        job_id = rig.add(make_job_document(send={"windowEndsAt": T0 + window}))
        rig.worker.drain(now=T0)
        job = rig.find(job_id)
        assert (job["state"], job["attempts"]) == ("queued", 1)
        assert "main_dm" not in job.get("progress", {})
        drain_for(rig, T0, minutes=5)
        assert rig.find(job_id)["state"] == state
        assert len(rig.graph.journal) == (state == "sent")

    @pytest.mark.parametrize(
        ("script", "document", "state", "sent", "told"),
        [
            # Without a button it would go on to the next: an answer that is lost ends it.
            ([], TWO_MESSAGES, "sent", ["opening_dm", "main_dm"], ["sent", "sent"]),
            (["reply lost"], TWO_MESSAGES, "unknown", ["opening_dm"], ["unknown"]),
            # A private reply has one retry, and Meta knows it.
            (
                ["reply lost", make_error("ALREADY_REPLIED", code=100)],
                *(make_comment_document(OPENING, MAIN), "waiting", ["opening_dm"], ["sent"]),
            ),
            (
                [make_error("UNKNOWN")] * 2,
                *(make_comment_document(OPENING, MAIN), "unknown", [], ["unknown"]),
            ),
            # An error of another kind may mean that it was delivered.
            ([ConnectionResetError()], make_job_document(), "unknown", [], ["unknown"]),
            # A public reply that is refused does not stop the private one.
            (
                [make_error("CONFIGURATION", code=200)],
                *(make_comment_document(), "waiting", ["opening_dm"], ["failed", "sent"]),
            ),
        ],
    )
    def test_what_may_have_been_delivered(
        self, rig: Rig, script: list[Any], document: Any, state: str, sent: Any, told: Any
    ) -> None:
        steps = [step["name"] for step in document["send"]["steps"]]
        rig.graph.script = list(script)
        job_id = rig.add(document)
        drain_for(rig, T0, minutes=5)
        assert rig.find(job_id)["state"] == state
        assert [step for _, step in rig.graph.sent] == sent
        assert rig.outcomes() == list(zip(steps, told, strict=False))

    def test_a_message_that_cannot_be_built_fails_alone(self, rig: Rig) -> None:
        broken = make_job_document(send={"steps": [MAIN | {"text": "unsendable"}]})
        job_id = rig.add(broken, make_job_document())
        rig.worker.drain(now=T0)
        assert rig.find(job_id)["progress"]["main_dm"]["reason"] == "content"
        assert len(rig.graph.journal) == 1


@pytest.mark.parametrize(
    "send",
    [{"steps": [{"text": "no name"}]}, {"position": 9}, {"steps": None}, {"steps": [MAIN, "x"]}],
)
def test_a_broken_job_ends_and_stops_no_other(rig: Rig, send: dict[str, Any]) -> None:
    broken = make_job_document()
    broken["send"] |= send
    broken_id = rig.add(broken, make_job_document())
    rig.worker.drain(now=T0)
    assert rig.find(broken_id)["state"] == "failed"
    assert len(rig.graph.journal) == 1
    assert rig.worker.drain(now=T0 + HOUR) == 0


class TestTelling:
    def test_tracking_that_fails_stops_no_message_and_is_told_later(self, rig: Rig) -> None:
        rig.record_error = RuntimeError("tracking is broken")
        job_id = rig.add(make_comment_document(PUBLIC, MAIN))
        rig.worker.drain(now=T0)
        assert rig.find(job_id)["state"] == "sent"
        assert rig.find(job_id)["reportAt"] == T0
        survivor = Rig(rig.db)  # as if the worker had died before it told the run
        survivor.worker.drain(now=T0 + timedelta(seconds=90))
        assert survivor.outcomes() == [("comment_reply", "sent"), ("main_dm", "sent")]
        assert "reportAt" not in rig.find(job_id)

    def test_a_step_that_could_not_be_told_is_told_with_the_next(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its `reportAt` is the next step's by then, and gone once that is told."""
        job_id, add = rig.add(make_comment_document()), rig.reporter.add
        rig.record_error = RuntimeError("tracking")

        def add_and_flush(*change: Any) -> None:
            add(*change)
            rig.reporter.flush(at=T0)
            rig.record_error = None

        monkeypatch.setattr(rig.reporter, "add", add_and_flush)
        rig.worker.drain(now=T0)
        assert rig.outcomes() == [("comment_reply", "sent"), ("opening_dm", "sent")]
        assert "reportAt" not in rig.find(job_id)

    def test_a_trigger_that_is_not_counted_yet_is_sent_and_told_once_it_is(self, rig: Rig) -> None:
        job_id = rig.add(make_job_document(outcome=None, runId="chosen at the door"))
        rig.worker.drain(now=T0)
        assert rig.find(job_id)["state"] == "sent"
        assert rig.find(job_id)["reportAt"] == T0
        assert rig.outcomes() == []
        mark(rig, job_id, outcome="duplicate", runId="of the pair")
        rig.worker.drain(now=T0 + timedelta(seconds=1))
        assert rig.outcomes() == [("main_dm", "sent")]
        assert rig.told[0].run_id == "of the pair"
        assert "reportAt" not in rig.find(job_id)

    def test_what_waits_long_is_looked_at_less_often_and_is_never_lost(self, rig: Rig) -> None:
        job_id = rig.add(make_job_document(outcome=None))
        rig.worker.drain(now=T0)
        looks = []
        for minute in range(1, 300):
            before = rig.find(job_id)["reportAt"]
            rig.worker.drain(now=T0 + minute * MINUTE)
            if rig.find(job_id)["reportAt"] != before:
                looks.append(minute)
        assert looks[0] <= 2
        assert 6 <= len(looks) <= 12
        assert all(later - earlier <= 62 for earlier, later in pairwise(looks))
        mark(rig, job_id, outcome="counted", runId="r1")
        rig.worker.drain(now=T0 + 365 * MINUTE)
        assert rig.outcomes() == [("main_dm", "sent")]

    def test_what_is_not_counted_keeps_nobody_elses_outcomes_waiting(self, rig: Rig) -> None:
        documents = [make_job_document(outcome=None) for _ in range(250)]
        progress = {"main_dm": {"state": "sent", "at": T0}}
        done = {"state": "sent", "progress": progress, "reportAt": T0}
        late = make_job_document() | done | {"reportAt": T0 + MINUTE}
        rig.add(*({**one, **done} for one in documents), late)
        rig.db["automation_triggers"].update_many({}, {"$unset": {"nextAt": ""}})
        rig.worker.drain(now=T0 + 3 * MINUTE)
        assert [one.run_id for one in rig.told] == [late["runId"]]


def mark(rig: Rig, job_id: str, **fields: Any) -> None:
    """What a counter does when it has counted the trigger."""
    rig.db["automation_triggers"].update_one({"_id": job_id}, {"$set": fields})


class TestTaps:
    def add_tap(self, rig: Rig, *steps: Any) -> str:
        """A tap as the webhook stores it, on the message of a comment with these steps."""
        source = make_comment_document(OPENING, _id="acc1:comment:c1")
        source["send"]["steps"] = list(steps)
        rig.add(source)
        rig.db["automation_triggers"].update_one({}, {"$unset": {"nextAt": ""}})
        tap = make_job_document(outcome=None, workspaceId="", continues="acc1:comment:c1")
        del tap["send"]["steps"]
        tap["send"] |= {"tapped": "opening_dm"}
        return rig.add(tap)

    def test_it_has_what_was_left_of_the_message_under_which_it_is(self, rig: Rig) -> None:
        job_id = self.add_tap(rig, PUBLIC, OPENING, MAIN)
        rig.worker.drain(now=T0)
        assert rig.graph.sent == [("dm", "main_dm")]
        job = rig.find(job_id)
        assert (job["state"], job["workspaceId"]) == ("sent", "w1")
        assert job["send"] == {
            "tapped": "opening_dm", "steps": [MAIN], "rootId": "acc1:comment:c1", "via": "dm",
            "position": 1, "windowEndsAt": T0 + timedelta(hours=24),
        }  # fmt: skip

    def test_its_window_can_end_before_anybody_looks(self, rig: Rig) -> None:
        job_id = self.add_tap(rig, OPENING, MAIN)
        rig.worker.drain(now=T0 + timedelta(hours=25))
        assert rig.find(job_id)["state"] == "expired"
        assert rig.graph.journal == []

    def test_a_source_that_cannot_be_read_ends_it_alone(self, rig: Rig) -> None:
        job_id = self.add_tap(rig, "x")
        rig.add(make_job_document())
        rig.worker.drain(now=T0)
        assert rig.find(job_id)["state"] == "failed"
        assert len(rig.graph.journal) == 1
