"""The payload of a button: which trigger and run a tap on it continues, signed by us.

A person's tap brings it back to us, weeks later too, when the trigger itself may be gone. A
payload is `run1.<base64 of a JSON array>.<signature>`: no secret, but nobody else can make one.
Meta takes up to 1000 characters
(https://developers.facebook.com/docs/messenger-platform/reference/buttons/postback).
"""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256

import msgspec

PREFIX = "run1."
LONGEST_PAYLOAD = 1000
_SIGNATURE_BYTES = 16
_SHAPE = re.compile(r"run1\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{22}")


class PayloadTooLong(ValueError):
    """The ids are so long that their payload would not be taken by Meta."""


class TapPayload(msgspec.Struct, frozen=True, array_like=True):
    """What a button says: its message was step `step` of this trigger, which belongs to this run.

    `run_id` is None for a trigger that was not counted yet.
    """

    trigger_id: str
    run_id: str | None
    automation_id: str
    step: str


_decoder = msgspec.json.Decoder(TapPayload)


def build_payload(
    trigger_id: str, run_id: str | None, automation_id: str, step: str, *, key: bytes
) -> str:
    """Return the payload of a step's button. Raises PayloadTooLong past 1000 characters."""
    content = msgspec.json.encode(TapPayload(trigger_id, run_id or None, automation_id, step))
    signed = PREFIX + _encode(content)
    payload = f"{signed}.{_sign(signed, key)}"
    if len(payload) > LONGEST_PAYLOAD:
        raise PayloadTooLong(f"a payload should have at most {LONGEST_PAYLOAD} characters")
    return payload


def parse_payload(text: str, *, key: bytes) -> TapPayload | None:
    """Return what a payload of ours says; None for one that is foreign or forged. Never raises."""
    if not has_shape(text):
        return None
    signed, _, signature = text.rpartition(".")
    if not hmac.compare_digest(_sign(signed, key), signature):
        return None
    content = signed.removeprefix(PREFIX)
    try:
        return _decoder.decode(urlsafe_b64decode(content + "=" * (-len(content) % 4)))
    except ValueError:
        return None  # signed by another version of ours


def parse_payload_of_any(text: str, *, keys: Sequence[bytes]) -> TapPayload | None:
    """Return what a payload signed with one of the keys says, or None: the first is in use."""
    for key in keys:
        found = parse_payload(text, key=key)
        if found is not None:
            return found
    return None


def is_claimed(text: str) -> bool:
    """Return whether a payload says that it is ours, true or not."""
    return text.startswith(PREFIX)


def has_shape(text: str) -> bool:
    """Return whether a payload looks like ours; only its signature proves it."""
    return len(text) <= LONGEST_PAYLOAD and _SHAPE.fullmatch(text) is not None


def _sign(signed: str, key: bytes) -> str:
    digest = hmac.digest(key, signed.encode("ascii"), sha256)
    return _encode(digest[:_SIGNATURE_BYTES])


def _encode(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode("ascii")
