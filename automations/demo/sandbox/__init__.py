"""A stand-in for Instagram: an HTTP server with its rules, its webhooks, and faults on demand."""

from automations.demo.sandbox.sandbox import Fault, Sandbox
from automations.demo.sandbox.state import Button, Received

__all__ = ["Button", "Fault", "Received", "Sandbox"]
