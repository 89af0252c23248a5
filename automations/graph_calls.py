"""Which call of the Graph API sends a step, and how its errors are named."""

from __future__ import annotations

from typing import Any

from automations.flow import Act, Call
from automations.jobs import Job
from automations.outside import Graph


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
