"""A fake Meta: a real HTTP server with Instagram's rules, for tests, demos and trying out.

It keeps what each person received, delivers signed webhooks, and breaks when it is told to.
"""

from __future__ import annotations

from automations.demo.sandbox.faults import Fault
from automations.demo.sandbox.limits import Limits
from automations.demo.sandbox.messages import Button
from automations.demo.sandbox.sandbox import Sandbox
from automations.demo.sandbox.state import Received

__all__ = ["Button", "Fault", "Limits", "Received", "Sandbox"]
