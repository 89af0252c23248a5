"""Run a program that dies with its parent: `python exec_with_parent.py <parent pid> <program> ...`.

A file of its own, run by path and without site-packages, because a function between fork and exec
(subprocess's preexec_fn) may deadlock in a process with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h; kept across execve, prctl(2)


def main() -> None:
    """Ask the kernel for SIGKILL at the parent's death, then become the program.

    SIGKILL, not SIGTERM: a clean shutdown of mongod takes a second in which nobody else can have
    its directory; its journal makes the next start as quick after a kill.
    """
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit("The parent ended before the program could be tied to it.")
    os.execv(program[0], program)  # noqa: S606 - the program is this package's own choice


if __name__ == "__main__":
    main()
