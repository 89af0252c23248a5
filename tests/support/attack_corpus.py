"""What nobody means well with: bodies of a webhook, broken on purpose, and how to make more."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

from tests.support.webhook_cases import ACCOUNTS, PAYLOAD_NAMES, read_payload

ACCOUNT = ACCOUNTS[0]
SECRET = "Words of a person"
MISSING = object()
# What stands in the place of any value: of every type, of every size, and what databases mistake.
INTRUDERS = [
    *(MISSING, None, True, False, 0, -1, 1.5, 1e300, 10**30, -(10**400)),
    *("", "0", SECRET, "\0", "\ud83d", "\ude00\ud83d"),
    *([], [None], [SECRET], {}, {"id": SECRET}, {"$gt": SECRET}),
]
# Ids and texts that look like something else to a database, a log, a path or a page.
HOSTILE_TEXTS = (
    "$where", "$gt", "a.b", ".", "..", "a\0b", "__proto__", "' || '1'=='1", "a:b:c", "::",
    "🧨" * 300, "\u202egnp.exe", "\x1b[2J\x1b[31m", "</script><script>alert(1)</script>",
    "line\r\n✅ [TRACKING] Automation run tracked: forged (main_dm)", "{{7*7}}", "%s%n%d", "\ufeff",
)  # fmt: skip


def write(payload: Any) -> bytes:
    """As JSON; what UTF-8 cannot hold is escaped."""
    return json.dumps(payload).encode()


def build_envelope(*changes: Any, **entry: Any) -> dict[str, Any]:
    entry = {"id": ACCOUNT, "time": 1763893800, "changes": list(changes)} | entry
    return {"object": "instagram", "entry": [entry]}


def build_comment(**value: Any) -> dict[str, Any]:
    return {"field": "comments", "value": {"id": "1", "from": {"id": "2"}, "text": "hi"} | value}


def list_paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from list_paths(item, (*path, key))


def mutate(payload: Any, path: tuple[Any, ...], intruder: Any) -> Any:
    if not path:
        return None if intruder is MISSING else intruder
    payload = deepcopy(payload)
    place = payload
    for key in path[:-1]:
        place = place[key]
    if intruder is MISSING:
        del place[path[-1]]
    else:
        place[path[-1]] = intruder
    return payload


def list_mutants(name: str) -> Iterator[Any]:
    payload = json.loads(read_payload(name))
    for path in list_paths(payload):
        for intruder in INTRUDERS:
            yield mutate(payload, path, intruder)


def _comment_with(text: bytes) -> bytes:
    good = write(build_comment(id="neighbour", **{"from": {"id": "n"}}))
    bad = b'{"field":"comments","value":{"id":"bad","from":{"id":"b"},"text":%s}}' % text
    entry = b'{"id":"%s","time":1763893800,"changes":[%s,%s]}' % (ACCOUNT.encode(), bad, good)
    return b'{"object":"instagram","entry":[%s]}' % entry


# Deliveries that hold a good comment "neighbour" beside what is wrong: the good one counts.
WITH_NEIGHBOUR: dict[str, bytes] = {
    "depth in a text": _comment_with(b"[" * 900 + b"]" * 900),
    "objects in a text": _comment_with(b'{"a":' * 900 + b"1" + b"}" * 900),
    "half a pair": _comment_with(b'"\\ud83d"'),
    "half a pair in a key": _comment_with(b'{"\\ud83d":1}'),
    "past 64 bits": _comment_with(b"18446744073709551616"),
    "4000 digits": _comment_with(b"9" * 4000),
    "5000 digits": _comment_with(b"9" * 5000),
    "past floats": _comment_with(b"1e999"),
    "an operator": _comment_with(b'{"$gt":""}'),
    "keys of MongoDB": _comment_with(b'{"$where":"sleep(9)","a.b":1,"":2,"a\\u0000b":3}'),
    "a NUL": _comment_with(b'"a\\u0000b"'),
    "twice the same key": _comment_with(b'"a","text":{"$ne":1},"text":"b"'),
    "a text of 3 MiB": _comment_with(b'"' + b"x" * 3 * 2**20 + b'"'),
    **{
        f"ids like {at}": write(
            build_envelope(
                build_comment(id=text, **{"from": {"id": text, "username": text}}, text=text,
                              media={"id": text}, parent_id=text),
                build_comment(id="neighbour", **{"from": {"id": "n"}}),
            )
        )
        for at, text in enumerate(HOSTILE_TEXTS)
    },
}  # fmt: skip
# Bodies of which nothing can be read.
UNREADABLE: dict[str, bytes] = {
    "nothing": b"",
    "a NUL": b"\0",
    "deep arrays": b"[" * 1_000_000,
    "deep objects": b'{"entry":' * 400_000,
    "deep and closed": b"[" * 200_000 + b"]" * 200_000,
    "UTF-16": '{"object":"instagram","entry":[]}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"object":"instagram","entry":[]}',
    "overlong UTF-8": b'{"object":"instagram","entry":"\xc0\xae"}',
    "a half pair in UTF-8": b'{"object":"instagram","entry":"\xed\xa0\xbd"}',
    "NaN": b'{"object":"instagram","entry":[NaN]}',
    "an operator": b'{"object":{"$gt":""},"entry":[]}',
    "entry twice": b'{"object":"instagram","entry":[],"entry":{"$gt":""}}',
    "form": b"object=instagram&entry[]=1",
    "XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "two documents": b'{"object":"instagram","entry":[]}{"object":"instagram","entry":[]}',
}
TOO_LARGE: dict[str, bytes] = {
    "a byte over": b" " * (4 * 2**20 + 1),
    "17 MB": b'{"object":"instagram","entry":["' + b"x" * 17_000_000 + b'"]}',
}

_ENVELOPE_KEYS = ["object", "entry", "id", "time", "changes", "messaging", "standby", "field"]
_VALUE_KEYS = ["value", "message", "mid", "text", "from", "sender", "reply_to", "story", "media"]
KEYS = st.sampled_from([*_ENVELOPE_KEYS, *_VALUE_KEYS, "attachments", "postback", "$gt", "a.b"])
TEXT = st.text(st.characters(exclude_categories=[]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.sampled_from(HOSTILE_TEXTS),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS | TEXT, inner),
    max_leaves=20,
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Any body: any JSON, as it is or in the place of an element or of any value of a payload
    file, any bytes, or a payload file with some of its bytes changed.
    """
    kind = draw(st.sampled_from(["json", "element", "value", "file", "bytes"]))
    if kind == "json":
        return write(draw(JSON))
    if kind == "element":
        value = draw(JSON)
        return write(build_envelope(build_comment(), value, messaging=[value], standby=value))
    if kind == "bytes":
        return draw(st.binary())
    payload = json.loads(read_payload(draw(st.sampled_from(PAYLOAD_NAMES))))
    if kind == "value":
        path = draw(st.sampled_from(list(list_paths(payload))))
        return write(mutate(payload, path, draw(JSON)))
    body = bytearray(write(payload))
    for _ in range(draw(st.integers(1, 4))):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body)
