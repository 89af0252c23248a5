"""Rules are never older than a second, and one query at a time reads them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from automations.rules.cache import _HEAVY_BYTES, RulesCache
from automations.rules.matching import AccountRules, LoadedRules
from tracking.exceptions import TrackingUnavailable


class Database:
    """Loads rules, and remembers what was asked of it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[list[str]] = []
        self.known: list[dict[str, LoadedRules]] = []
        self.is_away = False
        self.sizes: dict[str, int] = {}
        self.answers = threading.Event()
        self.answers.set()
        self.is_asked = threading.Event()
        self.cache = RulesCache(self.load, clock=lambda: self.now)

    def load(self, account_ids: list[str], known: Any, *, seconds: float) -> Any:
        self.asked.append(sorted(account_ids))
        self.known.append(known)
        self.is_asked.set()
        if not self.answers.wait(seconds) or self.is_away:
            raise TrackingUnavailable("away")
        return {
            one: LoadedRules(AccountRules([]), size=self.sizes.get(one, 0)) for one in account_ids
        }

    def get(self, *account_ids: str, seconds: float = 5.0) -> list[AccountRules]:
        rules = self.cache.get_rules(account_ids, seconds=seconds)
        return [rules[one] for one in account_ids]


@pytest.fixture
def database() -> Database:
    return Database()


def test_rules_are_read_again_after_half_a_second(database: Database) -> None:
    [first] = database.get("a")
    database.now = 0.5
    assert database.get("a") == [first]
    database.now = 0.51
    assert database.get("a") != [first]
    assert database.asked == [["a"], ["a"]]
    assert database.known[1]["a"].rules is first


def test_one_query_reads_all_accounts_in_use_and_no_other(database: Database) -> None:
    database.get("quiet")
    database.now = 60.0
    database.get("a", "b")
    database.get("a", "c")
    database.now = 61.0
    database.get("b")
    assert database.asked == [["quiet"], ["a", "b"], ["c"], ["a", "b", "c"]]


def test_threads_that_ask_for_the_same_share_one_query(database: Database) -> None:
    database.answers.clear()
    with ThreadPoolExecutor(8) as threads:
        found = [threads.submit(database.get, "a") for _ in range(8)]
        database.is_asked.wait(5)
        database.answers.set()
        assert len({id(one.result(5)[0]) for one in found}) == 1
    assert database.asked == [["a"]]


def test_rules_younger_than_a_second_are_used_while_they_are_read(database: Database) -> None:
    before = database.get("a")
    database.now, database.is_asked = 0.9, threading.Event()
    database.answers.clear()
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(database.get, "a")
        database.is_asked.wait(5)
        assert database.get("a") == before
        database.now = 1.01
        with pytest.raises(TrackingUnavailable):
            database.get("a", seconds=0.05)
        database.answers.set()
        assert reading.result(5) != before


def test_a_database_that_is_away_is_told_once_rules_are_too_old(database: Database) -> None:
    before = database.get("a")
    database.is_away = True
    database.now = 1.0
    assert database.get("a") == before
    database.now = 1.01
    with pytest.raises(TrackingUnavailable):
        database.get("a")
    with pytest.raises(TrackingUnavailable):
        database.get("new")
    database.is_away = False
    assert database.get("a") != before


def test_an_account_that_is_quiet_for_long_is_forgotten(database: Database) -> None:
    database.get("a")
    database.now = 601.0
    database.get("b")
    database.get("a")
    assert [sorted(one) for one in database.known] == [[], [], []]


def test_a_refresh_reads_everything_again(database: Database) -> None:
    before = database.get("a")
    database.cache.refresh()
    assert database.get("a") != before


def test_a_heavy_account_is_read_by_itself_and_as_much_more_seldom(database: Database) -> None:
    database.sizes["heavy"] = 4 * _HEAVY_BYTES
    database.get("heavy", "a")
    database.now = 1.0
    database.get("a")
    database.get("heavy", "a")
    database.now = 2.01
    database.get("heavy", "b")
    assert database.asked == [["a", "heavy"], ["a"], ["a", "b"], ["heavy"]]


def test_nobody_else_waits_for_a_heavy_account(database: Database) -> None:
    database.sizes["heavy"] = 2 * _HEAVY_BYTES
    before = database.get("heavy", "a")
    database.now, database.is_asked = 2.01, threading.Event()
    database.answers.clear()
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(database.get, "heavy")
        database.is_asked.wait(5)
        load, database.cache._load = (
            database.cache._load,
            lambda ids, known, seconds: {one: LoadedRules(AccountRules([])) for one in ids},
        )
        assert database.get("a", seconds=0.05) != before[1:]
        database.cache._load = load
        database.answers.set()
        assert reading.result(5) != before[:1]
