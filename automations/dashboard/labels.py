"""Words for steps, their states and their reasons. Pure."""

from automations.instagram.graph_errors import ErrorClass
from automations.outbox.jobs import JobState, StepState
from automations.outbox.transitions import RETRIED
from automations.rules.steps import ASK_FOLLOW, COMMENT_REPLY, MAIN_DM, OPENING_DM

STEPS = {
    COMMENT_REPLY: "Public reply",
    OPENING_DM: "Opening message",
    ASK_FOLLOW: "Request to follow",
    MAIN_DM: "Main message",
}
# By state: its tone (ok, bad or quiet) and its words.
STATES = {
    StepState.SENT.value: ("ok", "sent"),
    StepState.SHADOW.value: ("quiet", "prepared, not sent (shadow)"),
    StepState.SKIPPED.value: ("quiet", "skipped"),
    StepState.FAILED.value: ("bad", "not delivered"),
    StepState.UNKNOWN.value: ("bad", "may have been delivered, Instagram did not answer"),
    StepState.EXPIRED.value: ("bad", "expired, Instagram’s time to answer had ended"),
    StepState.SENDING.value: ("quiet", "being sent"),
}
JOBS = {
    JobState.QUEUED.value: "is queued",
    JobState.LEASED.value: "is about to be sent",
    JobState.SENDING.value: "is being sent",
    JobState.WAITING.value: "waits for a tap",
}
_REASONS = {
    "follows": "the person already follows",
    "unknown": "whether the person follows could not be found out",
    "content": "Instagram does not accept the automation’s text or links",
    "cut_off": "the process that sent it stopped",
    RETRIED: "it is retried once",
    **{one.name.lower(): one.value for one in ErrorClass if one is not ErrorClass.UNKNOWN},
}


def describe_step(step: object) -> str:
    return STEPS.get(step, step) if isinstance(step, str) else "Something"


def describe_state(state: object) -> tuple[str, str]:
    """Return (tone, words) of a step's state."""
    return STATES.get(state, ("quiet", state)) if isinstance(state, str) else ("quiet", "unknown")


def describe_reason(reason: object, *, code: object = None, subcode: object = None) -> str:
    words = _REASONS.get(reason, reason) if isinstance(reason, str) else ""
    if code is None:
        return words
    numbers = f"Instagram’s error {code}" + ("" if subcode is None else f".{subcode}")
    return f"{words} ({numbers})" if words else numbers
