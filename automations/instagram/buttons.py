"""The payload of a button: which trigger and run a tap on it continues, signed by us.

A person's tap brings it back, possibly weeks later, when the trigger itself may be gone. It is no
secret, but nobody else can make one.
"""

import msgspec
from django.core.signing import BadSignature, Signer

from automations.instagram.elements import PAYLOAD_PREFIX
from automations.instagram.limits import PAYLOAD_LENGTH


class TapPayload(msgspec.Struct, frozen=True, array_like=True):
    """The button's message was step `step` of this trigger, which belongs to this run.

    `run_id` is None for a trigger that was not counted yet.
    """

    trigger_id: str
    run_id: str | None
    automation_id: str
    step: str


def build_payload(trigger_id: str, run_id: str | None, automation_id: str, step: str) -> str:
    signed = _get_signer().sign_object([trigger_id, run_id or None, automation_id, step])
    return f"{PAYLOAD_PREFIX}{signed}"


def parse_payload(text: str) -> TapPayload | None:
    """Return what a payload of ours says, None for a forged one; SECRET_KEY_FALLBACKS count."""
    if not text.startswith(PAYLOAD_PREFIX) or len(text) > PAYLOAD_LENGTH:
        return None
    try:
        content = _get_signer().unsign_object(text.removeprefix(PAYLOAD_PREFIX))
        return msgspec.convert(content, TapPayload)
    except (BadSignature, ValueError):
        # Forged, half a surrogate pair in it, or signed by another version of ours.
        return None


def _get_signer() -> Signer:
    return Signer(salt="automations.button_payloads", sep=".")
