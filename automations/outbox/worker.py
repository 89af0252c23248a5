"""The worker finds lanes with work, takes their turns, and sends their jobs in threads."""

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from automations.accounts import accounts
from automations.accounts.accounts import Account, AccountState
from automations.conf import conf
from automations.instagram.buttons import build_payload
from automations.instagram.graph import GraphClient
from automations.instagram.messages import build_message, choose_public_reply
from automations.outbox import transitions
from automations.outbox.account_status import find_mode
from automations.outbox.jobs import VIAS, Job, StepResult, StepState
from automations.outbox.lanes import LaneStore, Turn
from automations.outbox.reporting import Record, Reporter
from automations.outbox.sender import Sender
from automations.outbox.store import OutboxStore
from automations.rules.steps import COMMENT_REPLY
from tracking import service
from tracking.clock import read_now
from tracking.exceptions import TrackingUnavailable
from tracking.mongo import client as mongo

logger = logging.getLogger("automations.worker")

THREADS = 16
# Few, because the jobs of one turn go out one after another while other accounts wait.
_TURN_JOBS = 10
_DISCOVER_SECONDS = 0.25
_SWEEP_SECONDS = 5.0
_REPORT_SECONDS = 0.5
_LATE_SECONDS = 30.0
_IDLE_SECONDS = 0.1
# A change of an account's state is noticed within this time.
_ACCOUNT_SECONDS = 5.0
_AWAY_SECONDS = 1.0
# A paused account rests this long.
_REST = timedelta(seconds=60)


def compose(job: Job, step: Mapping[str, Any]) -> Any:
    """Return a step's message, or its text for a public reply.

    What waits for a tap has a button whose payload names the job's trigger and, once that is
    counted, its run. Raises ValueError for content that cannot be sent.
    """
    if step["name"] == COMMENT_REPLY:
        return choose_public_reply(step, trigger_id=job.id)
    if not transitions.waits_for_tap(job, step):
        return build_message(step)
    run_id = None if job.outcome is None or job.run_id is None else str(job.run_id)
    payload = build_payload(job.id, run_id, job.automation_id, step["name"])
    return build_message(step, payload=payload)


def pause_account(account_id: str, state: AccountState, reason: str) -> None:
    logger.error("❌ Account %s is paused (%s): %s", account_id, state, reason)
    accounts.set_state(account_id, state, reason, at=read_now())


class Worker:
    """Sends what is due; `drain` in the caller's thread, `run` until `stop`.

    `compose` builds a step's message as the Graph API takes it; `record` tells runs what became of
    their steps; `setting` is INSTAGRAM_SENDING. Raises MongoNotConfigured and TrackingUnavailable.
    """

    def __init__(
        self,
        graph: GraphClient | None = None,
        *,
        setting: str | None = None,
        compose: Callable[[Job, Mapping[str, Any]], Any] = compose,
        record: Record = service.record_step_outcomes,
        pause: Callable[[str, AccountState, str], object] = pause_account,
        get_account: Callable[[str], Account | None] = accounts.get_account,
    ) -> None:
        database = mongo.get_database()
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:12]}"
        self.store = OutboxStore(database, owner=owner)
        self.lanes = LaneStore(database)
        self.reporter = Reporter(self.store, record)
        self.graph = graph or GraphClient(conf.graph_url)
        self.compose = compose
        self.now: datetime | None = None  # of tests; None is the server's time
        self._pause = pause
        self._get_account = get_account
        self._setting = conf.sending if setting is None else setting
        self._stop = threading.Event()
        self.turned_at = time.monotonic()
        self._accounts: dict[str, tuple[float, Account | None]] = {}
        self._due_at: dict[str, float] = {}
        self._free = THREADS
        self._freed = threading.Condition()

    def read_clock(self) -> datetime:
        return self.now or read_now()

    def is_stopping(self) -> bool:
        return self._stop.is_set()

    def drain(self, *, now: datetime | None = None) -> int:
        """Send everything that is due and that the lanes allow; return how many jobs.

        `now` replaces the server's time for all of it. Raises TrackingUnavailable.
        """
        self.now = now
        self._accounts.clear()
        held = 0
        try:
            self.sweep()
            while True:
                while (senders := self._take_turn(_TURN_JOBS)) is not None:
                    for sender in senders:
                        sender.run()
                    held += len(senders)
                if not self._discover():
                    break
            at = self.read_clock()
            self.reporter.flush(at=at)
            self.reporter.retry_unreported(at=at)
        finally:
            self.now = None
        return held

    def run(self) -> None:
        """Work until `stop`; then finish running calls and release the other jobs."""
        reporting = threading.Thread(target=self._report, name="reports")
        reporting.start()
        was_away = False
        with ThreadPoolExecutor(THREADS, thread_name_prefix="send") as pool:
            while not self._stop.is_set():
                self.turned_at = time.monotonic()
                try:
                    self._work(pool)
                    was_away = False
                except TrackingUnavailable as error:
                    if not was_away:
                        logger.warning("⚠️ Nothing can be sent now: %s", error)
                    was_away = True
                    self._stop.wait(_AWAY_SECONDS)
                except Exception:
                    logger.exception("❌ The worker failed once, and continues")
                    self._stop.wait(_AWAY_SECONDS)
        reporting.join()
        # The calls that were under way when it was told to stop are back only now.
        self.reporter.flush(at=self.read_clock())

    def stop(self) -> None:
        """Make `run` return once running calls have ended. Safe in a signal handler."""
        self._stop.set()

    def sweep(self) -> None:
        """Recover the jobs of dead workers.

        None is lost, because each is queued, leased, or at its end. None is sent twice, because
        `sending` is stored before each call.
        """
        now = self.now
        if count := self.store.requeue_abandoned(now=now):
            logger.warning("⚠️ %d jobs of a dead worker are queued again", count)
        if count := sum(self._settle_cut_off(job) for job in self.store.list_cut_off(now=now)):
            logger.warning("⚠️ %d calls of a dead worker were settled", count)

    def _settle_cut_off(self, job: Job) -> bool:
        """Settle an interrupted call.

        An echo proves that the message was delivered; a private reply has one retry, because Meta
        accepts one per comment; the rest is unknown.
        """
        at = self.read_clock()
        echo = job.progress.get(job.name_of(job.position), {}).get("echo")
        if echo is None and transitions.can_retry_unknown(job):
            change = transitions.retry_unknown(job, at=at)
        else:
            result = StepResult(state=StepState.UNKNOWN, at=at, reason="cut_off")
            if echo is not None:
                result = StepResult(state=StepState.SENT, at=at, mid=echo)
            change = transitions.end_step(job, result, is_held=False)
        is_settled = self.store.settle_cut_off(job, change)
        if is_settled:
            self.reporter.add(job, change)
        return is_settled

    def _work(self, pool: ThreadPoolExecutor) -> None:
        if self._is_due("sweep", _SWEEP_SECONDS):
            self.sweep()
        if self._is_due("discover", _DISCOVER_SECONDS):
            self._discover()
        with self._freed:
            if not self._free:
                self._freed.wait(_IDLE_SECONDS)
            want = min(self._free, _TURN_JOBS)
        if not want:
            return
        senders = self._take_turn(want)
        if senders is None:
            self._stop.wait(_IDLE_SECONDS)
        for sender in senders or ():
            with self._freed:
                self._free -= 1
            pool.submit(self._send, sender)

    def _send(self, sender: Sender) -> None:
        try:
            sender.run()
        except TrackingUnavailable as error:
            # The lease expires, and then the job is recovered.
            logger.warning("⚠️ A job was dropped until its lease ends: %s", error)
        except Exception:
            logger.exception("❌ A job was dropped until its lease ends")
        finally:
            with self._freed:
                self._free += 1
                self._freed.notify()

    def _report(self) -> None:
        # In a thread of its own: tracking that hangs must not keep a message waiting.
        while not self._stop.wait(_REPORT_SECONDS):
            at = self.read_clock()
            self.reporter.flush(at=at)
            if self._is_due("late", _LATE_SECONDS):
                self.reporter.retry_unreported(at=at)

    def _is_due(self, name: str, seconds: float) -> bool:
        now = time.monotonic()
        if self._due_at.get(name, 0.0) > now:
            return False
        self._due_at[name] = now + seconds
        return True

    def _discover(self) -> int:
        at = self.read_clock()
        opened = 0
        for via in VIAS:
            account_ids = self.store.list_due_accounts(via, now=at)
            opened += self.lanes.open_lanes(via, account_ids, now=at)
        return opened

    def _take_turn(self, want: int) -> list[Sender] | None:
        """Return the senders of the next turn; None when no lane is due."""
        turn = self.lanes.take_turn(want=want, now=self.now)
        if turn is None:
            return None
        if not turn.granted:
            return []
        account = self._find_account(turn.account_id)
        token = None if account is None else account.token
        is_active = account is not None and account.state is AccountState.ACTIVE
        # A token that cannot be decrypted must not put the account in shadow.
        has_token = account is not None and account.has_token
        mode = find_mode(self._setting, has_token=has_token, can_send=bool(token) and is_active)
        if mode == "off":
            self._rest(turn)
            return []
        if mode == "shadow":
            token = None
        return [Sender(job, token=token, worker=self) for job in self._claim(turn)]

    def _claim(self, turn: Turn) -> list[Job]:
        account_id, via, limit = turn.account_id, turn.via, turn.granted
        jobs, is_last = self.store.claim(account_id, via, limit=limit, now=self.now, at=turn.at)
        if len(jobs) < limit:
            self.lanes.end_turn(turn, unused=limit - len(jobs), is_empty=is_last)
        return jobs

    def _rest(self, turn: Turn) -> None:
        at = self.read_clock()
        is_more = True
        while is_more:
            is_more = False
            for job in self.store.list_overdue(turn.account_id, turn.via, at=at):
                change = transitions.expire(job, at=at)
                if self.store.expire_queued(job, change):
                    is_more = True
                    self.reporter.add(job, change)
        # Spread, so that thousands of resting accounts do not return together.
        self.lanes.rest(turn, until=at + _REST * random.uniform(1.0, 1.5))  # noqa: S311

    def _find_account(self, account_id: str) -> Account | None:
        known = self._accounts.get(account_id)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        account = self._get_account(account_id)
        self._accounts[account_id] = (time.monotonic() + _ACCOUNT_SECONDS, account)
        return account

    def pause(self, account_id: str, state: AccountState, reason: str) -> None:
        self._pause(account_id, state, reason)
        self._accounts.pop(account_id, None)
