"""Realistic, signed traffic of Meta's: generated from a seed, sent, and summed up."""

from __future__ import annotations

from automations.simulation.generation import generate_deliveries
from automations.simulation.plan import Plan, SimulatedDelivery, SimulatedEvent, Target
from automations.simulation.report import Report
from automations.simulation.sending import run, send_deliveries

__all__ = [
    "Plan",
    "Report",
    "SimulatedDelivery",
    "SimulatedEvent",
    "Target",
    "generate_deliveries",
    "run",
    "send_deliveries",
]
