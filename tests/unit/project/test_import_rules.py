"""The one-way rule is kept by the tool: a break of it is found."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("tracking/service.py", "import automations.conf", "Imports point down"),
        ("automations/conf.py", "import project.logs", "Imports point down"),
        ("tracking/runs.py", "import django.conf", "Pure modules"),
        ("automations/rules/matching.py", "import pymongo", "Pure modules"),
        ("automations/webhook/views.py", "from pymongo.errors import PyMongoError", "pymongo, and"),
        # What lies outside the rooms.
        ("automations/spare.py", "", "The rooms of automations"),
        ("automations/spare/__init__.py", "", "The rooms of automations"),
        ("tracking/spare.py", "", "The rooms of tracking"),
        ("tracking/spare/__init__.py", "", "The rooms of tracking"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, module: str, line: str, contract: str) -> None:
    for package in ("project", "automations", "tracking"):
        for path in (ROOT / package).rglob("*.py"):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / module).parent.mkdir(exist_ok=True)
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{line}\n")
    result = subprocess.run(
        [sys.executable, "-c", LINT_IMPORTS, "--no-cache"], cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert result.returncode == 1, result.stdout + result.stderr
    broken = [one for one in result.stdout.splitlines() if " BROKEN" in one]
    assert [one for one in broken if one.startswith(contract)]


@pytest.mark.parametrize("package", ["automations", "tracking"])
def test_no_folder_is_invisible_to_the_linter(package: str) -> None:
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []
