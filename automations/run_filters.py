"""From the parameters of the API and of commands to the runs that they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def build_filter(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a RunFilter that checked parameters name."""
    step, _, state = (values.get("outcome") or "").rpartition(".")
    return {
        "trigger_type": values.get("triggerType"),
        "step": step or None,
        "state": state or None,
        "user_id": values.get("userId"),
        "post_id": values.get("postId"),
        "from_": values.get("from"),
        "to": values.get("to"),
    }
