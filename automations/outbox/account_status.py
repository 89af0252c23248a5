"""The accounts of a workspace: their state, and what is queued for them."""

from collections.abc import Collection
from datetime import datetime

import msgspec

from automations.accounts import accounts
from automations.accounts.accounts import Account, AccountState
from automations.conf import conf
from automations.outbox.jobs import LONG_AGO, VIAS
from automations.outbox.lanes import LANES, build_lane_id
from automations.outbox.rate_limits import find_end
from automations.rules import store
from tracking.clock import read_now
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

# States that an account can have besides those of AccountState.
NO_TOKEN = "no_token"  # noqa: S105 - the name of a state
OTHER_WORKSPACE = "other_workspace"
_SECONDS = 3.0


def find_mode(setting: str, *, has_token: bool, can_send: bool) -> str:
    """Return whether an account sends: "on", "shadow" (all but the call) or "off" (jobs wait).

    `setting` is INSTAGRAM_SENDING. By default ("") an account with a token sends; one without is in
    shadow.
    """
    if setting == "shadow" or (setting == "" and not has_token):
        return "shadow"
    return "on" if can_send and setting != "off" else "off"


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """The `queued` jobs of an account, without those that a worker has leased.

    `oldest_at` is when the longest waiting job became due. `finishes_at` is when the last job
    goes out if no more arrive, by the pace of Meta's limits and the account's back-off; a paused
    account finishes later. Both are None for an empty queue.
    """

    account_id: str
    queued: int = 0
    oldest_at: datetime | None = None
    finishes_at: datetime | None = None


class AccountSummary(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An account, as the API and the pages show it.

    `state` is an AccountState, NO_TOKEN or OTHER_WORKSPACE; the last has no other fields.
    `sending` is "on", "shadow" (everything except the call) or "off" (jobs stay queued until
    their window ends).
    """

    account_id: str
    state: str
    state_reason: str | None = None
    state_at: datetime | None = None
    sending: str | None = None
    last_webhook_at: datetime | None = None
    queued: int | None = None
    oldest_at: datetime | None = None
    finishes_at: datetime | None = None


def summarize_accounts(workspace_id: str) -> list[AccountSummary]:
    """Return the workspace's accounts and those that its automations name, by id.

    Raises TrackingUnavailable.
    """
    named = store.list_account_ids(workspace_id)
    found = {one.id: one for one in accounts.list_accounts(workspace_id, account_ids=named)}
    queues = summarize_queues(sorted(found.keys() | set(named)))
    return [_summarize(found.get(one), queue, workspace_id) for one, queue in queues.items()]


def _summarize(account: Account | None, queue: Queue, workspace_id: str) -> AccountSummary:
    waiting = msgspec.structs.asdict(queue)
    if account is None:
        mode = find_mode(conf.sending, has_token=False, can_send=False)
        return AccountSummary(**waiting, state=NO_TOKEN, sending=mode)
    if account.workspace_id not in ("", workspace_id):
        return AccountSummary(account_id=account.id, state=OTHER_WORKSPACE)
    has_token, is_active = account.has_token, account.state is AccountState.ACTIVE
    return AccountSummary(
        **waiting,
        state=account.state.value if has_token else NO_TOKEN,
        state_reason=account.state_reason,
        state_at=account.state_at,
        sending=find_mode(conf.sending, has_token=has_token, can_send=has_token and is_active),
        last_webhook_at=account.last_webhook_at,
    )


def summarize_queues(
    account_ids: Collection[str], *, now: datetime | None = None
) -> dict[str, Queue]:
    """Return each account's queue; `now` is for tests. Raises TrackingUnavailable."""
    at = now or read_now()
    # The index covers it.
    query = {
        "send.via": {"$in": list(VIAS)},
        "accountId": {"$in": list(account_ids)},
        "nextAt": {"$gt": LONG_AGO},
    }
    groups = {
        "_id": {"accountId": "$accountId", "via": "$send.via"},
        "count": {"$sum": 1},
        "firstAt": {"$min": "$nextAt"},
        "lastAt": {"$max": "$nextAt"},
    }
    ids = [build_lane_id(account_id, via) for account_id in account_ids for via in VIAS]
    with bounded(_SECONDS):
        database = mongo.get_database()
        counted = list(
            database["automation_triggers"].aggregate([{"$match": query}, {"$group": groups}])
        )
        found = database[LANES].find({"_id": {"$in": ids}}, batch_size=10_000)
        lanes = {document["_id"]: document for document in found}
    queues = {one: Queue(account_id=one) for one in account_ids}
    for one in counted:
        account_id, via, count = one["_id"]["accountId"], one["_id"]["via"], one["count"]
        queue, lane = queues[account_id], lanes.get(build_lane_id(account_id, via), {})
        # A job that is retried later is not ready before that.
        end = max(find_end(lane, via, count, now=at), one["lastAt"])
        queues[account_id] = Queue(
            account_id=account_id,
            queued=queue.queued + count,
            oldest_at=min(one["firstAt"], queue.oldest_at or one["firstAt"]),
            finishes_at=max(end, queue.finishes_at or end),
        )
    return queues
