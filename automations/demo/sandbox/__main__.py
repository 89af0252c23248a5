"""`python -m automations.demo.sandbox`: a stand-in for Instagram, controlled by lines on stdin."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from functools import partial

from automations.demo.sandbox.sandbox import Sandbox

_COMMANDS = """\
comment <account> <person> <text>     a comment on a post
message <account> <person> <text>     a direct message
tap <person> [<title>]                a tap on the newest button
follow <person> <account>             the person follows the account
journal <person>                      what the person received
fault <500|lost|reset|slow|190|613>   for the next call
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m automations.demo.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--webhook-url", default="", help="where webhooks go")
    parser.add_argument("--app-secret", default="", help="the secret that signs them")
    parser.add_argument("--account", action="append", default=[], help="an account; repeatable")
    options = parser.parse_args()
    write = partial(print, flush=True)  # noqa: T201 - its output
    with Sandbox(
        port=options.port, webhook_url=options.webhook_url, app_secret=options.app_secret
    ) as meta:
        commands: dict[str, Callable[..., object]] = {
            "comment": meta.comment,
            "message": meta.message,
            "tap": meta.tap,
            "follow": meta.follow,
            "journal": lambda person: "\n".join(map(str, meta.journal(person))),
            "fault": meta.faults.script,
        }
        write(f"INSTAGRAM_GRAPH_URL={meta.url}")
        for account_id in options.account:
            write(f"account {account_id} has the token {meta.add_account(account_id)}")
        write(_COMMANDS)
        for line in filter(str.strip, sys.stdin):
            try:
                name, *words = shlex.split(line)
                result = commands[name](*words)
                write("done" if result is None else result)
            except (LookupError, TypeError, ValueError) as error:
                write(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
