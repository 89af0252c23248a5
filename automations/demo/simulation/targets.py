"""Whom to write to: what the stored automations listen to, or accounts given by hand (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from automations.demo.simulation.plan import AUTOMATION_TYPES, Target
from automations.rules.automation import parse_automation

DEFAULT_TEXT = "LINK"
_KIND_OF_TYPE = {automation_type: kind for kind, automation_type in AUTOMATION_TYPES.items()}


def build_targets(
    documents: Iterable[Mapping[str, Any]], *, kinds: Sequence[str]
) -> tuple[Target, ...]:
    """Return one target for each automation document that can answer an event of `kinds`."""
    targets = []
    for document in documents:
        automation = parse_automation(document)
        if automation is None:
            continue
        kind = _KIND_OF_TYPE[automation.type]
        if kind in kinds:
            targets.append(
                Target(
                    kind=kind,
                    account_id=automation.account_id,
                    keywords=tuple(automation.keywords),
                    match=automation.match,
                    post_ids=tuple(sorted(automation.post_ids)),
                )
            )
    return tuple(targets)


def build_account_targets(
    account_ids: Iterable[str], *, kinds: Sequence[str], text: str | None
) -> tuple[Target, ...]:
    """Return one target for each account and kind, with `text` (or LINK) as its keyword."""
    return tuple(
        Target(kind=kind, account_id=account_id, keywords=(text or DEFAULT_TEXT,))
        for account_id in account_ids
        for kind in kinds
    )
