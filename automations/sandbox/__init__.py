"""A fake Meta: a real HTTP server with Instagram's rules, for tests, demos and trying out.

It keeps what each person received, delivers signed webhooks, and breaks when it is told to.
"""

from __future__ import annotations

from automations.sandbox.faults import Fault
from automations.sandbox.followers import Followers
from automations.sandbox.limits import Limits
from automations.sandbox.sandbox import Sandbox
from automations.sandbox.shapes import Button
from automations.sandbox.world import Received

__all__ = ["Button", "Fault", "Followers", "Limits", "Received", "Sandbox"]
