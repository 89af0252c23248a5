"""What tests of the outbox share: jobs as the webhook leaves them, and a Graph API that notes."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from pymongo.database import Database

from automations.accounts.accounts import Account, AccountState
from automations.instagram.access_tokens import AccessToken, Host
from automations.instagram.graph import GraphClient
from automations.instagram.graph_errors import ErrorClass, GraphError
from automations.outbox.jobs import Change, Job, parse_job
from automations.outbox.worker import Worker
from tests.support.triggers import T0
from tracking.rollups.outcomes import StepOutcome

PUBLIC = {"name": "comment_reply", "texts": ["See your messages!"]}
OPENING = {"name": "opening_dm", "text": "Want the link?", "button": "Yes"}
PLAIN_OPENING = {"name": "opening_dm", "text": "Hello!", "button": None}
ASK = {"name": "ask_follow", "text": "Follow us first", "button": "Done"}
MAIN = {"name": "main_dm", "text": "Here it is", "links": []}

_numbers = count(1)


def make_job_document(**fields: Any) -> dict[str, Any]:
    """A trigger with something to send, due at T0: a direct message by default.

    `outcome=None` makes it one that is not counted yet.
    """
    number = next(_numbers)
    created_at: datetime = fields.pop("created_at", T0)
    account_id = fields.pop("account_id", "acc1")
    send = {
        "steps": [MAIN], "position": 0, "via": "dm",
        "windowEndsAt": created_at + timedelta(hours=24),
    } | fields.pop("send", {})  # fmt: skip
    if send["via"] == "private_reply":
        send = {"commentId": f"c{number}"} | send
    document = {
        "_id": f"{account_id}:message:m{number:07}", "accountId": account_id,
        "automationId": "a1", "workspaceId": "w1", "triggerType": send["steps"][0]["name"],
        "userId": f"p{number}", "createdAt": created_at, "outcome": "counted", "runId": number,
        "state": "queued", "nextAt": created_at, "send": send,
        "expireAt": created_at + timedelta(days=14),
    } | fields  # fmt: skip
    if document["outcome"] is None:
        del document["outcome"]
    return document


def make_comment_document(*steps: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    send = {
        "steps": list(steps or [PUBLIC, OPENING, ASK, MAIN]), "via": "private_reply",
        "windowEndsAt": fields.get("created_at", T0) + timedelta(days=7),
    }  # fmt: skip
    return make_job_document(send=send | fields.pop("send", {}), **fields)


def make_error(name: str, *, code: int = 0, retry_after: float | None = None) -> GraphError:
    return GraphError(ErrorClass[name], code=code, subcode=code * 10, retry_after=retry_after)


def make_account(token: str | None = "token", state: AccountState = AccountState.ACTIVE) -> Account:
    return Account(
        id="acc", workspace_id="w1", host=Host.INSTAGRAM, state=state, state_reason=None,
        state_at=None, last_webhook_at=None, created_at=None, has_token=token is not None,
        token=None if token is None else AccessToken(token),
    )  # fmt: skip


@dataclass(frozen=True)
class Sent:
    kind: str
    to: str
    message: Any


@dataclass
class FakeGraph(GraphClient):
    """Notes what it delivers; `script` says what happens at each call before."""

    journal: list[Sent] = field(default_factory=list)
    script: list[Any] = field(default_factory=list)
    follows: Any = None
    before_call: Callable[[], None] | None = None

    def usage(self, account: str) -> float:
        return 0.0

    def reply_publicly(self, comment_id: str, text: Any, *, token: str) -> str:
        return self._deliver("public", comment_id, text)

    def reply_privately(self, account: Any, comment_id: str, message: Any, *, token: str) -> str:
        return self._deliver("private", comment_id, message)

    def send_message(self, account: Any, person_id: str, message: Any, *, token: str) -> str:
        return self._deliver("dm", person_id, message)

    def is_following(self, person_id: str, *, token: str) -> bool | None:
        if isinstance(self.follows, Exception):
            raise self.follows
        answer: bool | None = self.follows
        return answer

    def _deliver(self, kind: str, to: str, message: Any) -> str:
        if self.before_call is not None:
            self.before_call()
        plan = self.script.pop(0) if self.script else None
        if plan == "reply lost":
            self.journal.append(Sent(kind, to, message))
            raise make_error("UNKNOWN", code=1)
        if isinstance(plan, BaseException):
            raise plan
        self.journal.append(Sent(kind, to, message))
        return f"mid{len(self.journal)}"

    @property
    def sent(self) -> list[tuple[str, str]]:
        return [(one.kind, one.message) for one in self.journal]

    def count_doubles(self) -> int:
        counts = Counter((one.kind, one.to, one.message) for one in self.journal)
        return sum(number - 1 for number in counts.values())


def compose(_job: Job, step: Mapping[str, Any]) -> Any:
    if step.get("text") == "unsendable":
        raise ValueError("nothing to send")
    return step["name"]


class Rig:
    def __init__(
        self, db: Database[dict[str, Any]], *, setting: str = "", graph: Any = None
    ) -> None:
        self.db = db
        self.graph: FakeGraph = graph or FakeGraph()
        self.accounts: dict[str, Account] = {}
        self.default_account: Account | None = make_account()
        self.told: list[StepOutcome] = []
        self.record_error: Exception | None = None
        self.lock = threading.Lock()
        self.worker = Worker(
            self.graph, setting=setting, compose=compose, record=self._record, pause=self.pause,
            get_account=lambda one: self.accounts.get(one, self.default_account),
        )  # fmt: skip
        self.store = self.worker.store
        self.lanes = self.worker.lanes
        self.reporter = self.worker.reporter

    def pause(self, account_id: str, state: AccountState, reason: str) -> None:
        self.accounts[account_id] = make_account(state=state)

    def _record(self, told: Iterable[StepOutcome]) -> None:
        if self.record_error is not None:
            raise self.record_error
        self.told.extend(told)

    def add(self, *documents: dict[str, Any]) -> str:
        self.db["automation_triggers"].insert_many(list(documents))
        job_id: str = documents[0]["_id"]
        return job_id

    def find(self, job_id: str) -> dict[str, Any]:
        found = self.db["automation_triggers"].find_one({"_id": job_id})
        assert found is not None
        return found

    def outcomes(self) -> list[tuple[str, str]]:
        return [(one.step, one.state) for one in self.told]


def make_job(**fields: Any) -> Job:
    return parse_job(make_job_document(**fields))


def states_of(change: Change) -> dict[str, str]:
    return {name: result.state.value for name, result in change.results.items()}


def find_most(times: list[datetime], window: timedelta) -> int:
    """Return the most of these that any rolling window holds, its start included."""
    times.sort()
    most = start = 0
    for end, moment in enumerate(times):
        while times[start] <= moment - window:
            start += 1
        most = max(most, end - start + 1)
    return most
