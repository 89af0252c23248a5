"""How often a token may ask: never more than its share in any minute."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automations.auth import throttling
from automations.auth.throttling import Limiter


@given(
    waits=st.lists(st.floats(0, 40), max_size=200),
    per_minute=st.integers(1, 20),
)
def test_nobody_has_more_than_two_shares_in_a_minute_or_waits_in_vain(
    waits: list[float], per_minute: int
) -> None:
    """A full bucket and what drips out of it in the minute after: two shares at the very most."""
    now = 0.0
    limiter = Limiter(lambda: now)
    taken: list[float] = []
    for wait in waits:
        now += wait
        left = limiter.take("t", per_minute=per_minute)
        if left:
            now += left
            assert limiter.take("t", per_minute=per_minute) == 0
        taken.append(now)
        assert sum(now - 60 < at for at in taken) <= 2 * per_minute


def test_a_share_may_be_taken_at_once_and_is_there_again_after_a_minute() -> None:
    now = 100.0
    limiter = Limiter(lambda: now)
    assert [limiter.take("t", per_minute=3) for _ in range(3)] == [0, 0, 0]
    assert limiter.take("t", per_minute=3) == pytest.approx(20)
    assert limiter.take("another", per_minute=3) == 0
    now += 20
    assert limiter.take("t", per_minute=3) == 0
    assert limiter.take("t", per_minute=3) == pytest.approx(20)
    now += 60
    assert [limiter.take("t", per_minute=3) for _ in range(3)] == [0, 0, 0]


def test_tokens_that_are_quiet_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    limiter = Limiter(lambda: now)
    monkeypatch.setattr(throttling, "_MOST_KEYS", 10)
    for number in range(50):
        now += 10
        assert limiter.take(str(number), per_minute=6) == 0
    kept: dict[str, Any] = limiter._empty_at
    assert len(kept) <= 10
