"""The edge of the store modules: a time limit, and pymongo's errors turned into ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import pymongo
from pymongo.errors import PyMongoError

from tracking.exceptions import TrackingUnavailable
from tracking.failures import Failure, classify

# A client that looks for a server it does not find sees the end of its time this much later
# (MIN_HEARTBEAT_INTERVAL in pymongo, which its wait is made of).
_LATE_SECONDS = 0.5


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Limit the database calls inside to `seconds` in all.

    Raises TrackingUnavailable when the server is away or slow, before they are over; errors of
    another kind pass, they are ours to mend.
    """
    left = seconds - _LATE_SECONDS
    if left <= 0:
        raise TrackingUnavailable("the database did not answer in time")
    try:
        with pymongo.timeout(left):
            yield
    except PyMongoError as error:
        if classify(error) is Failure.OTHER:
            raise
        raise TrackingUnavailable(f"the database did not answer: {type(error).__name__}") from error
