"""The machine and the programs that a run was made with; no names, no paths."""

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

_PACKAGES = ("Django", "pymongo", "granian")


def describe_machine(mongod_version: str) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    facts = [
        ("cores", str(len(os.sched_getaffinity(0)))),
        ("CPU", _read_field("/proc/cpuinfo", "model name")),
        ("memory", f"{int(_read_field('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.0f} GiB"),
        ("kernel", f"{platform.system()} {platform.release().partition('-')[0]}"),
        ("MongoDB", f"{mongod_version}, replica set of one, w: majority, journal, for everyone"),
        ("Python", f"{platform.python_version()}; {versions}"),
    ]
    if shutil.which("node"):
        done = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
        facts.append(("Node", done.stdout.strip()))
    return facts


def _read_field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown 0"
