"""Leases: workers that die, hang or race lose nothing and send nothing twice."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database

from automations.outbox import echoes
from automations.outbox.jobs import DM, Job
from automations.outbox.store import OutboxStore
from tests.support.outbox_fakes import (
    MAIN,
    OPENING,
    PLAIN_OPENING,
    PUBLIC,
    FakeGraph,
    Rig,
    make_comment_document,
    make_job_document,
)
from tests.support.triggers import T0, now_in_milliseconds
from tests.support.waiting import wait_until

LEASE = timedelta(seconds=60)
LATER = T0 + timedelta(seconds=61)


class Killed(BaseException):
    """Ends a worker in the middle, as kill -9 does: nothing after it runs."""


def die(rig: Rig, now: datetime = T0) -> None:
    """Kill the worker in its first call."""
    rig.graph.script = [Killed()]
    with pytest.raises(Killed):
        rig.worker.drain(now=now)


def claim_one(store: OutboxStore, at: datetime = T0) -> Job:
    [job], _ = store.claim("acc1", DM, limit=1, now=at, at=at)
    return job


class TestClaims:
    def test_a_job_is_leased_to_one_owner_with_a_token_that_grows(self, rig: Rig) -> None:
        job_id = rig.add(make_job_document())
        job = claim_one(rig.store)
        stored = rig.find(job_id)
        assert stored["state"] == "leased"
        assert stored["lease"] == {"owner": rig.store.owner, "token": 1, "until": T0 + LEASE}
        assert "nextAt" not in stored
        other = OutboxStore(rig.db, owner="w2")
        assert other.claim("acc1", DM, limit=1, now=T0, at=T0) == ([], True)
        assert rig.store.requeue_abandoned(now=LATER) == 1
        assert claim_one(other, LATER).token == job.token + 1

    def test_the_longest_due_comes_first_and_what_is_not_due_stays(self, rig: Rig) -> None:
        late = make_job_document(created_at=T0 - timedelta(minutes=1))
        rig.add(make_job_document(), late, make_job_document(created_at=LATER))
        claimed, is_last = rig.store.claim("acc1", DM, limit=5, now=T0, at=T0)
        assert [job.created_at for job in claimed] == [late["createdAt"], T0]
        assert is_last

    def test_with_the_servers_time_a_lease_ends_by_it(self, rig: Rig) -> None:
        job_id = rig.add(make_job_document())
        rig.store.claim("acc1", DM, limit=1, now=None, at=T0)
        left = rig.find(job_id)["lease"]["until"] - now_in_milliseconds()
        assert timedelta(seconds=55) < left < timedelta(seconds=65)
        assert rig.store.requeue_abandoned(now=None) == 0

    def test_workers_that_race_share_the_jobs(self, rig: Rig) -> None:
        rig.add(*(make_job_document() for _ in range(200)))
        claimed: list[str] = []

        def claim(number: int) -> None:
            store = OutboxStore(rig.db, owner=f"w{number}")
            is_last = False
            while not is_last:
                jobs, is_last = store.claim("acc1", DM, limit=7, now=T0, at=T0)
                claimed.extend(job.id for job in jobs)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(claim, range(4)))
        assert len(claimed) == len(set(claimed)) == 200


class TestFencing:
    def test_who_lost_its_lease_does_not_send(self, rig: Rig) -> None:
        rig.add(make_job_document())
        job = claim_one(rig.store)
        assert not rig.store.begin_sending(job, now=LATER)
        rig.store.requeue_abandoned(now=LATER)
        other = OutboxStore(rig.db, owner="w2")
        again = claim_one(other, LATER)
        assert not rig.store.begin_sending(job, now=LATER)
        assert [other.begin_sending(again, now=LATER) for _ in range(2)] == [True, False]

    def test_an_answer_that_comes_after_the_lease_is_still_the_truth(self, rig: Rig) -> None:
        job_id = rig.add(make_job_document(send={"steps": [PLAIN_OPENING, MAIN]}))
        sweeper = Rig(rig.db)
        rig.graph.before_call = lambda: sweeper.worker.drain(now=LATER)
        rig.worker.drain(now=T0)
        job = rig.find(job_id)
        assert (job["state"], job["send"]["position"]) == ("sent", 2)
        assert job["progress"]["opening_dm"]["state"] == "sent"
        assert rig.graph.sent == [("dm", "opening_dm"), ("dm", "main_dm")]


class TestDeaths:
    def test_a_worker_that_dies_before_the_call_leaves_the_job_to_others(self, rig: Rig) -> None:
        job_id = rig.add(make_job_document())
        claim_one(rig.store)
        rig.worker.drain(now=LATER)
        assert rig.find(job_id)["state"] == "sent"

    def test_one_that_dies_in_the_call_of_a_message_leaves_it_unknown(self, rig: Rig) -> None:
        job_id = rig.add(make_job_document())
        die(rig)
        assert rig.find(job_id)["state"] == "sending"
        survivor = Rig(rig.db, graph=rig.graph)
        survivor.worker.drain(now=T0 + timedelta(seconds=59))
        assert rig.find(job_id)["state"] == "sending"
        survivor.worker.drain(now=LATER)
        assert rig.find(job_id)["state"] == "unknown"
        assert survivor.outcomes() == [("main_dm", "unknown")]
        survivor.worker.drain(now=T0 + timedelta(hours=30))
        assert rig.graph.journal == []

    def test_one_that_dies_in_a_private_reply_has_its_one_retry(self, rig: Rig) -> None:
        job_id = rig.add(make_comment_document(OPENING, MAIN))
        die(rig)
        rig.worker.drain(now=T0 + timedelta(minutes=2))
        assert rig.find(job_id)["state"] == "queued"
        die(rig, now=T0 + timedelta(minutes=3))
        for minute in range(5, 10):
            rig.worker.drain(now=T0 + timedelta(minutes=minute))
        assert rig.find(job_id)["state"] == "unknown"
        assert rig.graph.journal == []

    def test_one_that_dies_in_a_public_reply_does_not_repeat_it(self, rig: Rig) -> None:
        job_id = rig.add(make_comment_document(PUBLIC, OPENING, MAIN))
        die(rig)
        for minute in range(1, 5):
            rig.worker.drain(now=T0 + timedelta(minutes=minute))
        job = rig.find(job_id)
        assert job["state"] == "waiting"
        assert job["progress"]["comment_reply"]["state"] == "unknown"
        assert rig.graph.sent == [("private", "opening_dm")]


class TestEchoes:
    @pytest.fixture
    def cut_off(self, rig: Rig) -> str:
        job_id = rig.add(make_job_document(send={"steps": [PLAIN_OPENING, MAIN]}, userId="p"))
        rig.graph.script = ["reply lost"]
        rig.worker.drain(now=T0)
        assert rig.find(job_id)["state"] == "unknown"
        return job_id

    def test_an_echo_settles_a_message_and_the_flow_goes_on(self, rig: Rig, cut_off: str) -> None:
        assert echoes.settle_by_echo("acc1", "mid-e", "p", T0 + timedelta(seconds=1))
        job = rig.find(cut_off)
        assert (job["state"], job["progress"]["opening_dm"]["mid"]) == ("queued", "mid-e")
        rig.worker.drain(now=T0 + timedelta(minutes=2))
        assert rig.find(cut_off)["state"] == "sent"
        assert rig.graph.sent == [("dm", "opening_dm"), ("dm", "main_dm")]
        assert ("opening_dm", "sent") in rig.outcomes()

    @pytest.mark.parametrize(
        ("account_id", "person_id", "seconds"),
        [("acc2", "p", 1), ("acc1", "q", 1), ("acc1", "p", -60), ("acc1", "p", 600)],
    )
    def test_an_echo_of_something_else_settles_nothing(
        self, rig: Rig, cut_off: str, account_id: str, person_id: str, seconds: int
    ) -> None:
        at = T0 + timedelta(seconds=seconds)
        assert not echoes.settle_by_echo(account_id, "mid-e", person_id, at)
        rig.add(make_job_document(userId="p"))
        rig.worker.drain(now=T0)  # its echo is that of a message that is known
        assert not echoes.settle_by_echo("acc1", "mid2", "p", T0)
        assert rig.find(cut_off)["state"] == "unknown"

    def test_an_echo_that_is_faster_than_the_answer_is_kept_for_it(self, rig: Rig) -> None:
        job_id = rig.add(make_job_document(userId="p"))
        rig.graph.script = ["reply lost"]
        rig.graph.before_call = lambda: _echo("mid-e")
        rig.worker.drain(now=T0)
        job = rig.find(job_id)
        assert (job["state"], job["progress"]["main_dm"]["mid"]) == ("sent", "mid-e")

    def test_an_echo_is_never_that_of_a_public_reply(self, rig: Rig) -> None:
        job_id = rig.add(make_comment_document(PUBLIC, userId="p"))
        rig.graph.script = ["reply lost"]
        rig.worker.drain(now=T0)
        assert not echoes.settle_by_echo("acc1", "mid-e", "p", T0)
        assert rig.find(job_id)["state"] == "unknown"

    def test_an_echo_speaks_for_a_worker_that_died(self, rig: Rig) -> None:
        job_id = rig.add(make_job_document(userId="p"))
        rig.graph.before_call = lambda: _echo("mid-e")
        die(rig)
        rig.worker.drain(now=LATER)
        assert rig.find(job_id)["state"] == "sent"


def _echo(mid: str) -> None:
    assert echoes.settle_by_echo("acc1", mid, "p", T0 + timedelta(seconds=1))


def start(rig: Rig) -> threading.Thread:
    thread = threading.Thread(target=rig.worker.run)
    thread.start()
    return thread


class TestRunning:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_run_sends_what_comes_once_and_stops_when_told(
        self, db: Database[dict[str, Any]], workers: int
    ) -> None:
        graph = FakeGraph()
        rigs = [Rig(db, graph=graph) for _ in range(workers)]
        now = now_in_milliseconds()
        rigs[0].add(
            *(
                make_comment_document(PUBLIC, MAIN, created_at=now, account_id=f"a{number % 7}")
                for number in range(100)
            )
        )
        threads = [start(rig) for rig in rigs]
        wait_until(lambda: db["automation_triggers"].count_documents({"state": "sent"}) == 100)
        for rig in rigs:
            rig.worker.stop()
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()
        assert sum(len(rig.told) for rig in rigs) == len(graph.journal) == 200
        assert graph.count_doubles() == 0

    def test_a_stop_finishes_the_call_and_lets_go_of_the_rest(self, rig: Rig) -> None:
        is_calling, may_answer = threading.Event(), threading.Event()

        def wait() -> None:
            is_calling.set()
            may_answer.wait(10)

        rig.graph.before_call = wait
        now = now_in_milliseconds()
        job_id = rig.add(make_job_document(created_at=now, send={"steps": [PLAIN_OPENING, MAIN]}))
        thread = start(rig)
        assert is_calling.wait(5)
        rig.worker.stop()
        may_answer.set()
        thread.join(5)
        job = rig.find(job_id)
        assert (job["state"], job["send"]["position"]) == ("queued", 1)
        assert rig.graph.sent == [("dm", "opening_dm")]
