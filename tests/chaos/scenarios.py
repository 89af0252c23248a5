"""The scenarios of `make chaos`, in the order in which they run."""

from __future__ import annotations

from tests.chaos import counting, failover, sending, soak
from tests.chaos.scenario import Scenario

SCENARIOS: dict[str, Scenario] = {
    "counting": counting.SCENARIO,
    "sending": sending.SCENARIO,
    "failover": failover.SCENARIO,
    "soak": soak.SCENARIO,
}
