"""Our buckets give out less than Meta takes, in any window that Meta may count."""

from datetime import timedelta

import pytest

from automations.instagram.limits import (
    MESSAGES_PER_SECOND,
    PRIVATE_REPLIES_PER_HOUR,
    READS_PER_SECOND,
)
from automations.outbox.jobs import DM, PRIVATE_REPLY
from automations.outbox.rate_limits import MAIN, READS, Bucket

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)


@pytest.mark.parametrize(
    ("bucket", "window", "most"),
    [
        (MAIN[PRIVATE_REPLY], HOUR, PRIVATE_REPLIES_PER_HOUR),
        (MAIN[DM], SECOND, MESSAGES_PER_SECOND),
        (READS, SECOND, READS_PER_SECOND),
    ],
)
def test_bucket_and_refill_keep_the_limit(bucket: Bucket, window: timedelta, most: int) -> None:
    assert bucket.burst + window / bucket.pace <= most


def test_a_burst_of_private_replies_leaves_room_for_messages() -> None:
    message = MAIN[DM]
    sent = MAIN[PRIVATE_REPLY].burst + message.burst + SECOND / message.pace
    assert sent <= MESSAGES_PER_SECOND
