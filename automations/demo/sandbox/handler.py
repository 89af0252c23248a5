"""What the fake answers to a call, faults included."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime

import orjson

from automations.demo.sandbox.calls import read_call, read_token
from automations.demo.sandbox.faults import Fault, Faults
from automations.demo.sandbox.refusals import Refused
from automations.demo.sandbox.server import Answer, Request
from automations.demo.sandbox.state import Received, World
from automations.demo.sandbox.webhook_elements import Element, build_echo

# Which refusal a fault looks like; the call is not carried out.
_REFUSALS = {Fault.ERROR_500: "server", Fault.TOKEN_DEAD: "bad_token", Fault.RATE: "rate"}


class Answering:
    """Answers calls. `use_world` gives the world, locked, and the time."""

    def __init__(
        self,
        use_world: Callable[[], AbstractContextManager[tuple[World, datetime]]],
        *,
        faults: Faults,
        send_webhook: Callable[[Element], None],
        on_received: Callable[[Received], None] | None = None,
    ) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self._use_world = use_world
        self._faults = faults
        self._send_webhook = send_webhook
        self._on_received = on_received

    def handle(self, request: Request) -> Answer | None:
        """Return the answer to a request; None closes the connection without one."""
        token, where, account_id = "", "?", None
        try:
            token = read_token(request)
            with self._use_world() as (world, _):
                account_id = world.find_account_id(token)
            call = read_call(request)
            where = call.where
            fault = self._faults.choose(call.key, where=where, account_id=account_id)
            if fault is Fault.RESET:
                return None
            if fault in _REFUSALS:
                raise Refused(_REFUSALS[fault])
            if fault is Fault.SLOW:
                time.sleep(self._faults.slow_seconds)
            time.sleep(self._faults.latency_seconds / 2)
            with self._use_world() as (world, at):
                body, received = call.carry_out(world, account_id, at)
                self.answers[where, 0] += 1
                headers = _build_headers(world, account_id, at)
        except Refused as refused:
            status, body = refused.build_answer(token=token, trace_id="AsandboxTraceId")
            with self._use_world() as (world, at):
                self.answers[where, body["error"]["code"]] += 1
                return Answer(status, body, _build_headers(world, account_id, at))
        if received is not None:
            # Before the answer: Meta promises no order, and this one is the harder.
            self._send_webhook(build_echo(received))
            if self._on_received is not None:
                self._on_received(received)
        time.sleep(self._faults.latency_seconds / 2)
        return None if fault is Fault.LOST else Answer(200, body, headers)


def _build_headers(world: World, account_id: str | None, at: datetime) -> dict[str, str]:
    if account_id is None:
        return {}
    window = world.accounts[account_id].private_replies
    seconds = at.timestamp()
    usage = {
        "type": "instagram",
        "call_count": 100 * window.count(seconds) // max(1, window.most),
        "total_cputime": 1,
        "total_time": 1,
        "estimated_time_to_regain_access": int(-(-window.find_wait(seconds) // 60)),
    }
    return {"X-Business-Use-Case-Usage": orjson.dumps({account_id: [usage]}).decode()}
