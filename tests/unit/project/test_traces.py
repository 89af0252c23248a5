"""A trace names types and places, and quotes nobody."""

import logging
import traceback
from collections.abc import Callable

import pytest
from pymongo.errors import BulkWriteError, DuplicateKeyError

from project.logs import HumanFormatter, JsonFormatter, format_trace
from tracking.exceptions import TrackingUnavailable

MARKER = "what Ana wrote"


def raise_key() -> None:
    raise KeyError(MARKER)


def raise_bulk_write() -> None:
    raise BulkWriteError({"writeErrors": [{"op": {"metadata": {"messageText": MARKER}}}]})


def raise_duplicate() -> None:
    raise DuplicateKeyError(f'dup key: {{ messageText: "{MARKER}" }}')


def raise_own() -> None:
    raise TrackingUnavailable("the database is away") from ValueError(MARKER)


def raise_in_handler() -> None:
    try:
        raise_key()
    except KeyError as error:
        raise ValueError(error.args[0]) from error


def raise_group() -> None:
    raise ExceptionGroup(MARKER, [ValueError(MARKER)])


def catch(raiser: Callable[[], None]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each raises another
        raiser()
    return caught.value


@pytest.mark.parametrize(
    "raiser",
    [raise_key, raise_bulk_write, raise_duplicate, raise_own, raise_in_handler, raise_group],
)
def test_no_trace_holds_what_an_exception_quotes(raiser: Callable[[], None]) -> None:
    error = catch(raiser)
    assert MARKER in "".join(traceback.format_exception(error))
    record = logging.makeLogRecord({"msg": "failed", "levelname": "ERROR"})
    record.exc_info = (type(error), error, error.__traceback__)
    for formatter in (JsonFormatter(), HumanFormatter("{message}", style="{")):
        line = formatter.format(record)
        assert MARKER not in line
        assert f"in {raiser.__name__}" in line
        assert "Traceback (most recent call last)" in line


def test_our_own_exceptions_say_what_they_mean() -> None:
    trace = format_trace(catch(raise_own))
    assert trace.endswith("tracking.exceptions.TrackingUnavailable: the database is away")
    assert "ValueError\n\nThe above exception was the direct cause" in trace


def test_what_led_to_it_comes_first_and_a_circle_ends() -> None:
    error = catch(raise_in_handler)
    trace = format_trace(error)
    assert trace.index("KeyError") < trace.index("direct cause") < trace.rindex("ValueError")
    assert error.__cause__ is not None
    error.__cause__.__cause__ = error
    assert format_trace(error).count("Traceback") == 2
