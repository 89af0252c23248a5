"""The read behind the cache of active automations."""

from collections.abc import Sequence
from typing import Any

from pymongo.database import Database

from automations.definitions import Automation, parse_automation
from automations.matching import AccountRules

# Counters change with every run and are of no use to a rule.
_UNUSED = {"totalRuns": 0, "lastRunAt": 0, "updatedAt": 0}


def load_rules(
    database: Database[dict[str, Any]], account_ids: Sequence[str]
) -> dict[str, AccountRules]:
    """Return the rules of every account asked for; an account without automations has none."""
    automations: dict[str, list[Automation]] = {account_id: [] for account_id in account_ids}
    cursor = database["automations"].find(
        {"accountId": {"$in": list(account_ids)}, "isActive": True}, _UNUSED
    )
    for document in cursor:
        automation = parse_automation(document)
        if automation is not None and automation.account_id in automations:
            automations[automation.account_id].append(automation)
    return {account_id: AccountRules(found) for account_id, found in automations.items()}
