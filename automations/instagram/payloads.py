"""A webhook body becomes events: JSON, Meta's envelope, then each element.

The shapes of the envelope, told by the key that is there and never by the app's kind of login:

    {"object", "entry": [{"id", "time", "changes": [{"field", "value"}]}]}
    {"object", "entry": [{"id", "time", "field", "value"}]}           one change, laid flat
    {"object", "entry": [{"id", "time", "messaging": [{...}]}]}
    {"object", "entry": [{"id", "time", "standby": [{...}]}]}
    [{"object", "entry"}, ...]                                         any of these in an array
    {"field", "value"}                                                 the dashboard's sample box
"""

import json
import sys
from contextlib import suppress
from typing import Any

import orjson

from automations.instagram.elements import (
    ELEMENT_READERS,
    TEST_ACCOUNT_ID,
    BrokenValue,
    Reader,
    read_change,
    read_id,
    read_object,
    read_time,
)
from automations.instagram.events import (
    Delivery,
    Echo,
    Event,
    Malformed,
    Reason,
    UnreadableDelivery,
)

LONGEST_INTEGER = 4000  # digits; Python refuses to convert more than 4300
DEEPEST_RAW = 200  # levels; orjson writes at most 254


def parse_delivery(body: bytes) -> Delivery:
    """Read everything in one POST of Meta.

    A broken element becomes a Malformed and never disturbs the others. Raises UnreadableDelivery,
    and nothing else.
    """
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _read_payload(_load_exactly(body))
    delivery = _read_payload(payload)
    if delivery.malformed:
        # orjson turns whole numbers past 64 bits into floats. With all their digits they may be
        # good ids, and dead letters should hold what came.
        with suppress(UnreadableDelivery):
            delivery = _read_payload(_load_exactly(body))
    return delivery


def _load_exactly(body: bytes) -> Any:
    """Load JSON that orjson refuses or rounds, such as numbers past 64 bits."""
    try:
        return json.loads(
            str(body, "utf-8"),
            parse_int=_parse_int,
            parse_float=_parse_float,
            parse_constant=_refuse_constant,
        )
    except RecursionError as error:
        raise UnreadableDelivery("the body is nested too deeply") from error
    except ValueError as error:
        # Without the error's own text, which may quote the body.
        raise UnreadableDelivery("the body should be JSON in UTF-8") from error


def _parse_int(digits: str) -> int | float:
    return int(digits) if len(digits) <= LONGEST_INTEGER else _parse_float(digits)


def _parse_float(digits: str) -> float:
    # Infinity cannot be written as JSON again, and the largest number serves as well.
    return max(-sys.float_info.max, min(float(digits), sys.float_info.max))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _read_payload(payload: Any) -> Delivery:
    delivery = Delivery()
    if type(payload) is not list:
        _read_envelope(payload, delivery)
        return delivery
    if not payload:
        raise UnreadableDelivery("the body should hold a delivery, not an empty array")
    for envelope in payload:
        try:
            _read_envelope(envelope, delivery)
        except UnreadableDelivery as error:
            raw = _write([envelope])
            delivery.malformed.append(Malformed(raw=raw, error=str(error)))
    return delivery


def _read_envelope(envelope: Any, delivery: Delivery) -> None:
    if type(envelope) is not dict:
        raise UnreadableDelivery("the body should be an object, or an array of objects")
    if "entry" not in envelope:
        if "field" in envelope and "value" in envelope:
            _count(delivery, "test")
            return
        raise UnreadableDelivery("the body should hold entry")
    if type(envelope.get("object")) is not str:
        raise UnreadableDelivery("object should be a string")
    if envelope["object"] != "instagram":
        _count(delivery, "other_object")
        return
    if type(envelope["entry"]) is not list:
        raise UnreadableDelivery("entry should be an array")
    for entry in envelope["entry"]:
        try:
            _read_entry(entry, delivery)
        except BrokenValue as error:
            _keep(delivery, entry, f"entry[]{error}")


def _read_entry(entry: Any, delivery: Delivery) -> None:
    read_object(entry, "")
    account_id = read_id(entry.get("id"), ".id")
    head = {key: entry[key] for key in ("id", "time") if key in entry}
    is_known = False
    if "field" in entry:
        is_known = True
        flat = {key: entry[key] for key in ("field", "value") if key in entry}
        _read_elements([flat], read_change, account_id, head, delivery, key="")
    for key, read in ELEMENT_READERS.items():
        if key in entry:
            is_known = True
            elements = entry[key]
            if type(elements) is list:
                _read_elements(elements, read, account_id, head, delivery, key=key)
            else:
                _keep(delivery, head | {key: elements}, f"entry[].{key} should be an array")
    if not is_known:
        _count(delivery, "unknown_field", account_id)


def _read_elements(
    elements: list[Any],
    read: Reader,
    account_id: str,
    head: dict[str, Any],
    delivery: Delivery,
    *,
    key: str,
) -> None:
    """Read the elements under `key`, or the one that the entry itself is (no key)."""
    if account_id == TEST_ACCOUNT_ID:
        _count(delivery, "test", count=len(elements))
        return
    sent_at = read_time(head.get("time"))
    for element in elements:
        entry = head | ({key: [element]} if key else element)
        try:
            result = read(element, account_id, sent_at)
        except BrokenValue as error:
            where = f"entry[].{key}[]" if key else "entry[]"
            _keep(delivery, entry, f"{where}{error}")
            continue
        if isinstance(result, Event):
            result.entry = entry
            (delivery.events if result.payload is None else delivery.taps).append(result)
        elif isinstance(result, Echo):
            delivery.echoes.append(result)
            _count(delivery, "echo", account_id)
        else:
            _count(delivery, result, account_id)


def _count(
    delivery: Delivery, reason: Reason, account_id: str | None = None, count: int = 1
) -> None:
    delivery.ignored[reason] = delivery.ignored.get(reason, 0) + count
    if account_id is not None:
        of_account = delivery.ignored_by_account.setdefault(account_id, {})
        of_account[reason] = of_account.get(reason, 0) + count


def _keep(delivery: Delivery, entry: Any, error: str) -> None:
    delivery.malformed.append(Malformed(raw=build_envelope(entry), error=error))


def build_envelope(entry: Any) -> bytes:
    """Return a delivery of this entry alone; read again, it takes the same path."""
    return _write({"object": "instagram", "entry": [entry]})


def _write(payload: Any) -> bytes:
    """Write JSON that came in, without what is nested too deeply to be written."""
    with suppress(orjson.JSONEncodeError):
        return orjson.dumps(payload)
    payload = _cut(payload, DEEPEST_RAW)
    with suppress(orjson.JSONEncodeError):
        return orjson.dumps(payload)
    # Only the standard library writes half surrogate pairs and numbers past 64 bits.
    return json.dumps(payload, separators=(",", ":")).encode("ascii")


def _cut(value: Any, levels: int) -> Any:
    if isinstance(value, dict):
        if not levels:
            return "nested too deeply"
        return {key: _cut(item, levels - 1) for key, item in value.items()}
    if isinstance(value, list):
        if not levels:
            return "nested too deeply"
        return [_cut(item, levels - 1) for item in value]
    return value
