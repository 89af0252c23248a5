"""What the sender is given: the Graph API, an account, a clock, and where reports go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

import msgspec

from automations.outbox.jobs import Change, Job
from automations.outbox.transitions import Act, Call
from tracking.clock import read_now


class Graph(Protocol):
    """The calls. Their errors have `classification` (an Enum), `code`, `subcode`, `retry_after`."""

    def reply_publicly(self, comment_id: str, text: Any, *, token: str) -> Any:
        """Answer below the comment."""

    def reply_privately(self, account: Any, comment_id: str, message: Any, *, token: str) -> Any:
        """Answer the writer of a comment in a message; `message_id` is its id."""

    def send_message(self, account: Any, person_id: str, message: Any, *, token: str) -> Any:
        """Send a message; `message_id` is its id."""

    def is_following(self, person_id: str, *, token: str) -> bool | None:
        """Return whether the person follows; None is unknown."""


class SendContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a sender is given of the world.

    `compose` makes a step's message (a public reply's text) as the Graph API takes it; `pause` is
    told an account's id, its new state and why; `report` is told every change that a run has to
    know; `now` is a test's clock, or None for the server's; `is_stopping` asks to let go soon.
    """

    graph: Graph
    compose: Callable[[Job, Mapping[str, Any]], Any]
    pause: Callable[[str, str, str], None]
    report: Callable[[Job, Change], None]
    now: Callable[[], datetime | None] = lambda: None
    is_stopping: Callable[[], bool] = lambda: False

    def read_clock(self) -> datetime:
        """Return the time as it is stored in results."""
        return self.now() or read_now()


class Account(Protocol):
    """What sending needs of an account."""

    @property
    def has_token(self) -> bool:
        """Whether a token is stored for it."""

    @property
    def token(self) -> str | None:
        """The access token, None also when it cannot be read."""

    @property
    def state(self) -> str:
        """`active`, or why it is paused."""


def make_call(graph: Graph, job: Job, act: Act, message: Any, *, token: str) -> Any:
    """Send the message of a step and return Meta's answer. Raises what the Graph API raises."""
    if act.call is Call.REPLY_PUBLICLY:
        return graph.reply_publicly(job.comment_id or "", message, token=token)
    if act.call is Call.REPLY_PRIVATELY:
        return graph.reply_privately(job.account_id, job.comment_id or "", message, token=token)
    return graph.send_message(job.account_id, job.user_id, message, token=token)


def read_class(error: Exception) -> str:
    """Return the name of an error's class (graph.ErrorClass).

    What the client did not sort was thrown somewhere between our call and Meta's answer.
    """
    name: str = getattr(getattr(error, "classification", None), "name", "UNKNOWN")
    return name
