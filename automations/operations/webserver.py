"""The web processes of `serve`: granian in ASGI mode, with the threads of our bridge.

The only module that knows which server it is. `serve` starts it as a child, `python -m
automations.operations.webserver`, so that the processes that answer are forked from one without
threads, clients or connections of its own.
"""

import argparse
import atexit
import gc
import multiprocessing.util
import os
import resource
import signal
import socket
import sys
import threading
import time
from functools import partial

from django.conf import settings
from django.urls import get_resolver
from django.utils.module_loading import import_string
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels
from granian.server import Server
from granian.server.common import AbstractServer
from granian.server.mp import WorkerProcess

from automations.operations.bridge import Bridge
from automations.operations.process_watch import StoppedChildren, die_with_parent, end_if_stuck

# Requests past the threads wait in the process. granian accepts no connection past this number,
# and an idle one counts for 30 s; each costs 10 KB.
_MOST_CONNECTIONS = 16_384
_OTHER_FILES = 512
_KILL_AFTER_SECONDS = 5
# A request that takes longer never ends: MongoDB and Meta are waited for less.
_STUCK_SECONDS = 11.0


def build_command(application: str, **options: str | int) -> list[str]:
    """Return the command line that serves the dotted WSGI `application` until SIGTERM."""
    command = [sys.executable, "-m", "automations.operations.webserver", application]
    for name, value in {**options, "parent": os.getpid()}.items():
        command += [f"--{name}", str(value)]
    return command


def find_address_problem(host: str, port: int) -> str | None:
    """Return the sentence that says why the address cannot be listened on, None if it can.

    granian binds with SO_REUSEPORT and would share a taken port with whoever has it.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        return f"Cannot listen on {host}:{port} ({error.strerror}); choose another with --port."
    return None


def load_application(parent_pid: int, threads: int, stuck_seconds: float, target: str) -> Bridge:
    """Return the application, in the process that will call it."""
    # Until granian sets its own handlers this process has those of its parent, which only note
    # the signal.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent_pid)
    # multiprocessing leaves with os._exit, which would skip what the application registered to
    # stop in order.
    multiprocessing.util.Finalize(None, atexit._run_exitfuncs, exitpriority=0)  # noqa: SLF001
    application = import_string(target)
    _ = get_resolver().url_patterns  # imports every view
    # What is loaded now stays: the collector need not look at it again in every full collection.
    gc.collect()
    gc.freeze()
    bridge = Bridge(application, threads=threads, most_bytes=settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
    end_if_stuck(bridge.find_age, seconds=stuck_seconds)
    return bridge


def _kill_stopped(server: AbstractServer[WorkerProcess]) -> None:
    stopped = StoppedChildren()
    while True:
        time.sleep(1)
        stopped.kill([worker.inner.pid for worker in list(server.wrks)])


def main() -> None:
    """Serve until SIGTERM or SIGINT; a web process that dies is replaced."""
    parser = argparse.ArgumentParser(prog="python -m automations.operations.webserver")
    parser.add_argument("application")
    parser.add_argument("--host", required=True)
    for name in ("--port", "--processes", "--threads", "--parent"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--stuck-seconds", type=float, default=_STUCK_SECONDS)
    options = parser.parse_args()
    die_with_parent(options.parent)
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    server = Server(
        options.application,
        address=options.host,
        port=options.port,
        interface=Interfaces.ASGI,
        workers=options.processes,
        backpressure=max(options.threads, min(_MOST_CONNECTIONS, most_files - _OTHER_FILES)),
        http=HTTPModes.http1,
        websockets=False,
        log_level=LogLevels.error,
        respawn_failed_workers=True,
        respawn_interval=0.1,
        workers_kill_timeout=_KILL_AFTER_SECONDS,
    )
    threading.Thread(target=_kill_stopped, args=(server,), daemon=True).start()
    load = partial(load_application, os.getpid(), options.threads, options.stuck_seconds)
    server.serve(target_loader=load)


if __name__ == "__main__":
    main()
