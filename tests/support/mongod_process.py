"""The embedded mongod as the operating system sees it."""

from pathlib import Path


def find_mongod(data_dir: Path) -> int | None:
    """Return the process that runs on the directory, None when there is none."""
    try:
        pid = int((data_dir / "db" / "mongod.lock").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None  # never started, ended cleanly, or gone
    return pid if b"--dbpath" in command.split(b"\0") else None
