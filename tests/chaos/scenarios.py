"""The scenarios of `make chaos`, in the order in which they run."""

from __future__ import annotations

from tests.chaos import attacks, counting, failover, sending, soak
from tests.chaos.scenario import Scenario

SCENARIOS: dict[str, Scenario] = {
    "counting": counting.SCENARIO,
    "sending": sending.SCENARIO,
    "failover": failover.SCENARIO,
    "attacks": attacks.SCENARIO,
    "soak": soak.SCENARIO,
}
