"""What an erased person leaves in the outbox and in the dead letters. Pure.

A message that did not go out never will; one whose call is under way cannot be called back, and
nobody can learn any more what became of it.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from automations.outbox.jobs import DONE_RETENTION, JobState, StepState

Document = dict[str, Any]

REASON = "erased"
_LIVE = frozenset({JobState.QUEUED, JobState.LEASED, JobState.SENDING})
# What Meta's envelope lists the things in that happened.
_LISTS = ("changes", "messaging", "standby")


def build_trigger_update(document: Mapping[str, Any], name: str, *, at: datetime) -> Document:
    """Return the update that makes a trigger anonymous and ends what it has to send.

    Without its lease a worker that holds the job changes nothing any more.
    """
    set_: Document = {"userId": name}
    unset = {"metadata": "", "mids": "", "sendingAt": ""}
    if "send" in document:
        unset["send.commentId"] = ""
    is_live = document.get("state") in _LIVE
    ends = _end_steps(document, at=at) if is_live else {}
    for step in (document.get("progress") or {}).keys() - ends.keys():
        unset |= {f"progress.{step}.mid": "", f"progress.{step}.echo": ""}
    if is_live:
        set_ |= {f"progress.{step}": result for step, result in ends.items()}
        set_ |= {"state": JobState.SKIPPED.value, "doneAt": at, "reportAt": at,
                 "expireAt": at + DONE_RETENTION}  # fmt: skip
        unset |= {"lease": "", "nextAt": ""}
    return {"$set": set_, "$unset": unset}


def _end_steps(document: Mapping[str, Any], *, at: datetime) -> dict[str, Document]:
    send = document.get("send") or {}
    names = [step["name"] for step in send.get("steps", ())][send.get("position", 0) :]
    ends = {name: {"state": StepState.SKIPPED.value, "at": at, "reason": REASON} for name in names}
    if document["state"] == JobState.SENDING and names:
        ends[names[0]]["state"] = StepState.UNKNOWN.value
    return ends


class Split(msgspec.Struct, frozen=True):
    """A dead letter without a person: the bytes that stay (None: nothing), and what was theirs."""

    rest: bytes | None
    mentions: list[Any]


def split_letter(raw: bytes, person_id: str) -> Split:
    """Take everything that names the person out of the body of a delivery.

    Of a body that is no envelope of Meta's only the id can be taken out: zeros take its place.
    """
    is_named = build_matcher(person_id)
    try:
        payload = json.loads(raw)
    except (ValueError, RecursionError):
        return _redact(raw, person_id)
    if not is_named(payload):
        return Split(raw, [])
    envelopes = payload if isinstance(payload, list) else [payload]
    mentions: list[Any] = []
    kept = []
    for envelope in envelopes:
        _take_out(envelope, is_named, mentions)
        if is_named(envelope):
            mentions.append(envelope)
        elif not isinstance(envelope, dict) or envelope.get("entry") != []:
            kept.append(envelope)
    if not kept:
        return Split(None, mentions)
    try:
        rest = json.dumps(kept if isinstance(payload, list) else kept[0])
    except RecursionError:  # it can be read, and not written
        return _redact(raw, person_id)
    return Split(rest.encode(), mentions)


def build_matcher(person_id: str) -> Callable[[Any], bool]:
    """Return the function that says whether a value of JSON names the person, however deep."""
    pattern = re.compile(rf"(?<![0-9A-Za-z]){re.escape(person_id)}(?![0-9A-Za-z])")
    # A number with a fraction or an exponent has other digits than the id.
    number = float(person_id) if person_id.isdecimal() else None

    def is_named(value: Any) -> bool:
        left = [value]
        while left:
            one = left.pop()
            if isinstance(one, dict):
                left += [*one, *one.values()]
            elif isinstance(one, list):
                left += one
            elif pattern.search(str(one)) or (isinstance(one, float) and one == number):
                return True
        return False

    return is_named


def _take_out(envelope: Any, is_named: Callable[[Any], bool], mentions: list[Any]) -> None:
    entries = envelope.get("entry") if isinstance(envelope, dict) else None
    if not isinstance(entries, list):
        return
    kept = []
    for entry in entries:
        if isinstance(entry, dict):
            for name in _LISTS:
                if isinstance(entry.get(name), list):
                    mentions += [one for one in entry[name] if is_named(one)]
                    entry[name] = [one for one in entry[name] if not is_named(one)]
            is_empty = any(name in entry for name in _LISTS) and not any(map(entry.get, _LISTS))
            if is_empty:
                continue
        if is_named(entry):
            mentions.append(entry)
        else:
            kept.append(entry)
    envelope["entry"] = kept


def _redact(raw: bytes, person_id: str) -> Split:
    # JSON may escape any character as its UTF-16 units.
    units = (rf"(?:{re.escape(one)}|{_escape(one)})" for one in person_id)
    pattern = re.compile("".join(units).encode(errors="surrogatepass"))
    rest, count = pattern.subn(b"0" * len(person_id), raw)
    return Split(rest, [raw.decode("utf-8", "replace")] if count else [])


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(rf"\\u(?i:{units[at : at + 4]})" for at in range(0, len(units), 4))
