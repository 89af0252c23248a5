"""What goes on beside the deliveries of a soak: reads, taps, dead letters, and strangers."""

import http.client
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from random import Random

from django.conf import settings

from automations.demo.simulation.bodies import sign_body
from automations.demo.simulation.plan import KINDS
from automations.demo.simulation.sending import WEBHOOK_PATH
from automations.instagram.buttons import build_payload
from tests.chaos.background import Background
from tests.chaos.load import ACCOUNTS, Load
from tests.support.processes import SECRET_KEY
from tests.support.web_server import request
from tests.support.webhook_cases import SECRET

_TIMEOUT_SECONDS = 15.0
# Of one automation, of them all, and what machines look at.
_READS = (
    *("{}", "{}/stats", "{}/runs", "{}/series", "{}/outcomes"),
    *("/api/workspaces/ws1/automations", "/api/workspaces/ws1/accounts", "/readyz", "/metrics"),
)


class SideLoad(Background):
    """Does each of its chores so often a second; answers are counted by chore."""

    def __init__(self, port: int, *, token: str, load: Load, seed: int) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self._port = port
        if not settings.configured:  # outside of the tests
            settings.configure()
        settings.SECRET_KEY = SECRET_KEY  # that of the servers, which prove the taps
        self._headers = {"Authorization": f"Bearer {token}"}
        self._load = load
        self._random = Random(f"side:{seed}")
        self._number = 0
        # A thread for each, so that a slow one holds up no other: (chore, times a second).
        chores: tuple[tuple[Callable[[], None], float], ...] = (
            (self.read, 5.0), (self.tap, 5.0), (self.post_garbage, 1.0), (self.post_unsigned, 2.0),
        )  # fmt: skip
        super().__init__(*(partial(self._work, *chore) for chore in chores))

    def read(self) -> None:
        one = f"{self._random.choice(ACCOUNTS)}-{self._random.choice(KINDS)}"
        path = self._random.choice(_READS).format(f"/api/workspaces/ws1/automations/{one}")
        self._ask("read", "GET", path, headers=self._headers)

    def tap(self) -> None:
        """Tap on the button of somebody's message, as Meta reports it."""
        events = list(self._load.last)
        if not events:
            return
        event = self._random.choice(self._random.choice(events).events)
        source = f"{event.account_id}:{event.kind}:{event.event_id}"
        automation_id = f"{event.account_id}-{event.sim_kind}"
        payload = build_payload(source, None, automation_id, "main_dm")
        tap = {
            "sender": {"id": event.user_id}, "recipient": {"id": event.account_id},
            "timestamp": int(time.time() * 1000),
            "postback": {"mid": f"tap-{self._next()}", "title": "Yes", "payload": payload},
        }  # fmt: skip
        entry = {"id": event.account_id, "time": int(time.time() * 1000), "messaging": [tap]}
        self._post("tap", json.dumps({"object": "instagram", "entry": [entry]}).encode())

    def post_garbage(self) -> None:
        self._post("garbage", b'{"object": "instagram", "entry": %d' % self._next())

    def post_unsigned(self) -> None:
        body = b'{"object": "instagram", "entry": []}'
        self._ask("unsigned", "POST", WEBHOOK_PATH, body=body)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _post(self, chore: str, body: bytes) -> None:
        headers = {"X-Hub-Signature-256": sign_body(body, SECRET)}
        self._ask(chore, "POST", WEBHOOK_PATH, body=body, headers=headers)

    def _ask(
        self, chore: str, method: str, path: str, *, body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Ask over a connection of its own, as strangers do."""
        try:
            status, _ = request(
                self._port, path, method=method, body=body, headers=headers or {},
                timeout=_TIMEOUT_SECONDS,
            )  # fmt: skip
        except (OSError, http.client.HTTPException):
            status = 0
        self.answers[chore, status] += 1

    def _work(self, do: Callable[[], None], per_second: float) -> None:
        while not self.stopping.wait(1 / per_second):
            do()
