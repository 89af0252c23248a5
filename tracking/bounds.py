"""The edge of the store modules: a time limit, and pymongo's errors turned into ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import pymongo
from pymongo.errors import PyMongoError

from tracking.exceptions import TrackingUnavailable
from tracking.failures import Failure, classify


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Limit the database calls inside to `seconds` in all.

    Raises TrackingUnavailable when the server is away or slow; errors of another kind pass, they
    are ours to mend.
    """
    try:
        with pymongo.timeout(max(seconds, 0.05)):
            yield
    except PyMongoError as error:
        if classify(error) is Failure.OTHER:
            raise
        raise TrackingUnavailable(f"the database did not answer: {type(error).__name__}") from error
