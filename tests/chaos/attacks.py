"""Hostile deliveries by the thousand on a server that counts good ones meanwhile."""

import random
from argparse import Namespace
from collections import Counter
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from automations.demo.simulation.bodies import sign_body
from automations.demo.simulation.connection import Connection
from automations.demo.simulation.sending import build_webhook_url
from automations.instagram.events import UnreadableDelivery
from automations.instagram.payloads import parse_delivery
from tests.chaos.load import Load, forget, open_database
from tests.chaos.replica_set import ReplicaSet
from tests.chaos.scenario import Scenario, print_figures, print_wrong, summarize_broken
from tests.support.attack_corpus import ACCOUNT, TOO_LARGE, UNREADABLE, WITH_NEIGHBOUR, bodies
from tests.support.oracle import recount, wait_until_counted
from tests.support.web_server import WebServer
from tests.support.webhook_cases import SECRET, build_automation

MAX_BODY_BYTES = 4 * 2**20
RATE = 50.0
CONNECTIONS = 4
GOOD_ACCOUNTS = ("17841400000000091", "17841400000000092")
# What answers whatever can be read of the hostile bodies.
HOSTILE = "hostile"


class Attacker:
    """Posts bodies over one connection and notes each answer that is not the right one."""

    def __init__(self, url: str) -> None:
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.unreadable: set[bytes] = set()
        self._connection = Connection(build_webhook_url(url), timeout=15)

    def post(self, body: bytes, *, signature: str | None = None, expected: int = 200) -> None:
        """Post a body; signed as Meta would unless another signature is given."""
        given = signature or sign_body(body, SECRET)
        try:
            status = self._connection.post(body, signature=given).status
        except OSError:
            # A server that has said no to a body does not wait for the rest of it.
            status = 413 if len(body) > MAX_BODY_BYTES else 0
        kind = "signed" if signature is None else "forged"
        self.answers[f"{kind} {status}"] += 1
        if status != expected:
            self.wrong.append(f"{kind} {body[:200]!r}: {status}, not {expected}")
        if signature is None and status == 200:
            try:
                parse_delivery(body)
            except UnreadableDelivery:
                self.unreadable.add(body)

    def forge(self, body: bytes, bit: int) -> None:
        """Post a body with one bit of it or of its signature turned."""
        signature = sign_body(body, SECRET)
        if bit % 2 and body:
            at = bit // 2 % (len(body) * 8)
            changed = bytearray(body)
            changed[at // 8] ^= 1 << at % 8
            self.post(bytes(changed), signature=signature, expected=403)
            return
        # Of a hexadecimal digit, such that it stays one.
        at = len("sha256=") + bit // 2 % 64
        digit = "0123456789abcdef"[int(signature[at], 16) ^ 1]
        forged = signature[:at] + digit + signature[at + 1 :]
        self.post(body, signature=forged, expected=403)


def run(directory: Path, options: Namespace) -> bool:
    with (
        ReplicaSet(directory, size=1) as replica_set,
        open_database(replica_set.uri) as database,
        WebServer(directory, uri=replica_set.uri, threads=16) as server,
    ):
        database["automations"].insert_one(build_automation(HOSTILE, accountId=ACCOUNT))
        attacker = Attacker(server.url)
        load = Load(
            [server.url], database, seed=options.seed, connections=CONNECTIONS, rate=RATE,
            accounts=GOOD_ACCOUNTS,
        )  # fmt: skip
        with load:
            load.wait_for(1)
            attack(attacker, options)
            load.wait_for_more(1)
        load.resend()
        letters = {bytes(one["raw"]) for one in database["webhook_dead_letters"].find()}
        triggers = database["automation_triggers"]
        neighbour = triggers.find_one({"_id": f"{ACCOUNT}:comment:neighbour"})
        wait_until_counted(database)
        broken = recount(database)
        forget(database, [HOSTILE])
        broken += load.recount(window=timedelta(hours=1))
    lost = [f"unreadable body {body[:100]!r}" for body in attacker.unreadable - letters]
    lost += ["the good neighbour"] * (neighbour is None)
    rude = [f"answered {one}" for one in load.rude_answers]
    wrong = [*attacker.wrong, *lost, *broken, *rude]
    print_wrong(wrong)
    print_figures({
        "bodies": f"{attacker.answers.total()} hostile",
        "answers": ", ".join(f"{name}: {n}" for name, n in sorted(attacker.answers.items())),
        "dead letters": len(letters),
        "acknowledged": f"{len(load.acknowledged)} good events meanwhile",
        "wrong": len(attacker.wrong),
        "unkept": len(lost),
        **summarize_broken(broken),
    })  # fmt: skip
    return not wrong


def attack(attacker: Attacker, options: Namespace) -> None:
    chance = random.Random(f"attacks:{options.seed}")
    for body in (*UNREADABLE.values(), *WITH_NEIGHBOUR.values()):
        attacker.post(body)
        attacker.forge(body, chance.randrange(1 << 16))
    for body in TOO_LARGE.values():
        attacker.post(body, expected=413)

    @seed(options.seed)
    @settings(
        deadline=None, database=None, max_examples=options.bodies, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), verbosity=Verbosity.quiet,
    )  # fmt: skip
    @given(body=bodies(), bit=st.integers(0, 1 << 16))
    def post_both(body: bytes, bit: int) -> None:
        attacker.post(body)
        attacker.forge(body, bit)

    post_both()


SCENARIO = Scenario(
    "Hostile deliveries while good ones are counted.", {"bodies": (5000, "generated ones")}, run
)
