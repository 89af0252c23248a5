"""The process's own long-lived objects, made for the database in use and made anew with it."""

from typing import Any

from pymongo import MongoClient

from automations.dead_letters import DeadLetterStore
from automations.rules import RulesCache
from automations.rules_store import load_rules
from tracking import mongo

_cache: tuple[MongoClient[dict[str, Any]], RulesCache] | None = None


def get_rules_cache() -> RulesCache:
    """Return the cache of active automations; a new client, as after a fork, has a new cache."""
    global _cache
    client = mongo.get_client()
    if _cache is None or _cache[0] is not client:
        database = mongo.get_database()
        _cache = (client, RulesCache(lambda account_ids: load_rules(database, account_ids)))
    return _cache[1]


def get_dead_letters() -> DeadLetterStore:
    """Return the store of dead letters."""
    return DeadLetterStore(mongo.get_database())
