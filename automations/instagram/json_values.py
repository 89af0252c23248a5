"""Reading single JSON values: ids, texts, flags and times, each in the forms that Meta sends."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The platform sends seconds and milliseconds in the same places. As seconds, this is the year
# 33658; as milliseconds, it is 2001, before any of it existed.
LARGEST_SECONDS = 10**12
# The last millisecond that `datetime` can hold (9999-12-31T23:59:59.999Z).
LARGEST_MILLISECONDS = 253_402_300_799_999
LONGEST_TIME = 20  # digits

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# The types that loading JSON gives.
_JSON_NAMES: dict[type, str] = {
    bool: "a boolean",
    dict: "an object",
    float: "a number that is not whole",
    int: "a number",
    list: "an array",
    str: "a string",
    type(None): "null or missing",
}


class BrokenValue(ValueError):
    """A value is not what its field should hold. The message is "<path> should be <what it is>"."""

    def __init__(self, path: str, expected: str, found: str) -> None:
        super().__init__(f"{path} should be {expected}, not {found}")
        self.path = path
        self.expected = expected
        self.found = found

    def under(self, parent: str) -> "BrokenValue":
        """Return the same fact, told from the element that holds it."""
        return BrokenValue(parent + self.path, self.expected, self.found)


def refuse(value: object, path: str, expected: str) -> NoReturn:
    """Raise BrokenValue for `value`, naming its JSON type and never its content."""
    raise BrokenValue(path, expected, _JSON_NAMES[type(value)])


def read_id(value: Any, path: str) -> str:
    """Return an opaque id: any string that is not empty, or a whole number in its digits."""
    if type(value) is str:
        if not value:
            raise BrokenValue(path, "a non-empty string", "an empty one")
        if is_whole(value):
            return value
        raise BrokenValue(path, "a string of whole characters", "one with half a surrogate pair")
    if type(value) is int:
        return str(value)
    return refuse(value, path, "a non-empty string")


def is_whole(text: str) -> bool:
    """Return whether UTF-8, and so BSON, can hold a text: it has no half of a surrogate pair."""
    return text.isascii() or _LONE_SURROGATE.search(text) is None


def read_text(value: Any, path: str) -> str | None:
    """Return a text or None. Halves of emoji that Meta cut through become U+FFFD."""
    if value is None:
        return None
    if type(value) is not str:
        refuse(value, path, "a string")
    if value.isascii():
        return value
    return _LONE_SURROGATE.sub("\ufffd", value)


def read_flag(value: Any, path: str) -> bool:
    """Return a flag; one that is missing is False."""
    if value is None or value is False:
        return False
    if value is True:
        return True
    return refuse(value, path, "true or false")


def read_object(value: Any, path: str) -> dict[str, Any]:
    """Return a JSON object that has to be there."""
    if type(value) is dict:
        return value
    return refuse(value, path, "an object")


def read_time(value: Any) -> datetime | None:
    """Return Meta's time, aware UTC, whole milliseconds; None when there is none to be read.

    Takes seconds or milliseconds, as a number or as digits in a string. A time that cannot be read
    is no reason to lose an event: counting goes by the arrival of the delivery.
    """
    if type(value) is str and len(value) <= LONGEST_TIME and value.isascii() and value.isdigit():
        value = int(value)
    if type(value) is float and 0 < value <= LARGEST_MILLISECONDS:
        value = int(value) if value > LARGEST_SECONDS else round(value * 1000)
    elif type(value) is not int:
        return None
    elif value <= LARGEST_SECONDS:
        value *= 1000
    if 0 < value <= LARGEST_MILLISECONDS:
        return EPOCH + timedelta(milliseconds=value)
    return None
