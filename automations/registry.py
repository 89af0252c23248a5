"""The process's own long-lived objects, made for the database in use and made anew with it."""

from functools import partial
from typing import Any

import msgspec
from pymongo import MongoClient

from automations.dead_letters import DeadLetterStore
from automations.rules import RulesCache
from automations.rules_store import load_rules
from tracking.mongo import client as mongo


class _Held(msgspec.Struct):
    client: MongoClient[dict[str, Any]] | None = None
    rules: RulesCache | None = None


_held = _Held()


def get_rules_cache() -> RulesCache:
    """Return the cache of active automations; a new client, as after a fork, has a new cache."""
    client = mongo.get_client()
    if _held.rules is None or _held.client is not client:
        if _held.rules is not None:
            _held.rules.close()
        _held.client = client
        _held.rules = RulesCache(partial(load_rules, mongo.get_database()))
    return _held.rules


def get_dead_letters() -> DeadLetterStore:
    """Return the store of dead letters."""
    return DeadLetterStore(mongo.get_database())
