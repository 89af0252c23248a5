"""The sender's ports: the Graph API, an account, a clock, and the receiver of reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

import msgspec

from automations.outbox.jobs import Change, Job
from automations.outbox.transitions import Act, Call
from tracking.clock import read_now


class Graph(Protocol):
    """The calls; errors have `classification` (an Enum), `code`, `subcode`, `retry_after`."""

    def reply_publicly(self, comment_id: str, text: Any, *, token: str) -> Any:
        """Reply below the comment."""

    def reply_privately(self, account: Any, comment_id: str, message: Any, *, token: str) -> Any:
        """Message the comment's author; the answer has the `message_id`."""

    def send_message(self, account: Any, person_id: str, message: Any, *, token: str) -> Any:
        """Send a message; the answer has the `message_id`."""

    def is_following(self, person_id: str, *, token: str) -> bool | None:
        """Return whether the person follows; None if unknown."""


class SendContext(msgspec.Struct, frozen=True, kw_only=True):
    """The ports of a sender.

    `compose` builds a step's message (a public reply's text) as the Graph API takes it; `pause`
    gets an account's id, its new state and the reason; `report` gets every change that belongs
    into the run; `now` is a test's clock, or None for the server's; `is_stopping` asks to release
    the job soon.
    """

    graph: Graph
    compose: Callable[[Job, Mapping[str, Any]], Any]
    pause: Callable[[str, str, str], None]
    report: Callable[[Job, Change], None]
    now: Callable[[], datetime | None] = lambda: None
    is_stopping: Callable[[], bool] = lambda: False

    def read_clock(self) -> datetime:
        return self.now() or read_now()


class Account(Protocol):
    """What sending needs of an account."""

    @property
    def has_token(self) -> bool:
        """Whether a token is stored, readable or not."""

    @property
    def token(self) -> str | None:
        """The access token; None also when it cannot be decrypted."""

    @property
    def state(self) -> str:
        """`active`, or why it is paused."""


def make_call(graph: Graph, job: Job, act: Act, message: Any, *, token: str) -> Any:
    """Send a step's message and return Meta's answer. Raises what the Graph API raises."""
    if act.call is Call.REPLY_PUBLICLY:
        return graph.reply_publicly(job.comment_id or "", message, token=token)
    if act.call is Call.REPLY_PRIVATELY:
        return graph.reply_privately(job.account_id, job.comment_id or "", message, token=token)
    return graph.send_message(job.account_id, job.user_id, message, token=token)


def read_class(error: Exception) -> str:
    """Return the name of an error's class (graph_errors.ErrorClass).

    Any other exception is UNKNOWN, because it was raised between our call and Meta's answer.
    """
    name: str = getattr(getattr(error, "classification", None), "name", "UNKNOWN")
    return name
