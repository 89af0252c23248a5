"""`BENCH_BEFORE=<commit>`: an older commit of this project as one more candidate."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.benchmarks.candidates import ROOT, Candidate, serve


class Before:
    """What a commit holds, in a temporary directory; no candidates where none is named."""

    def __init__(self, commit: str) -> None:
        self._directory: Path | None = None
        self._commit = ""
        if not commit:
            return
        try:
            self._commit = (
                _git("rev-parse", "--short", "--verify", f"{commit}^{{commit}}").decode().strip()
            )
            content = _git("archive", "--format=tar", self._commit)
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"BENCH_BEFORE: {error.stderr.decode().strip()}") from error
        self._directory = Path(tempfile.mkdtemp(prefix="bench-before-"))
        subprocess.run(["tar", "-x", "-C", str(self._directory)], input=content, check=True)

    def list_servers(self, processes: int) -> list[Candidate]:
        if self._directory is None:
            return []
        candidate = serve(processes, root=self._directory)
        name = candidate.name.replace("ours", f"ours at {self._commit}")
        return [candidate._replace(name=name)]

    def remove(self) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


def _git(*arguments: str) -> bytes:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], check=True, capture_output=True
    ).stdout
