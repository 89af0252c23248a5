"""Simulated, signed webhook traffic: generated from a seed, sent, and summed up."""

from automations.demo.simulation.generation import generate_deliveries
from automations.demo.simulation.plan import Plan, SimulatedDelivery, SimulatedEvent, Target
from automations.demo.simulation.report import Report
from automations.demo.simulation.sending import send_deliveries

__all__ = ["Plan", "Report", "SimulatedDelivery", "SimulatedEvent", "Target"]
__all__ += ["generate_deliveries", "send_deliveries"]
