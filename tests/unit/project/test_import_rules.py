"""The one-way rule is kept by the tool: a break of it is found."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"


@pytest.mark.parametrize(
    ("module", "forbidden", "contract"),
    [
        ("tracking/service.py", "import automations.conf", "Imports point down"),
        ("automations/conf.py", "import project.logs", "Imports point down"),
        ("tracking/runs.py", "import django.conf", "Pure modules"),
        ("automations/rules/matching.py", "import pymongo", "Pure modules"),
        (
            "automations/webhook/views.py",
            "from pymongo.errors import PyMongoError",
            "pymongo, and its",
        ),
    ],
)
def test_a_forbidden_import_is_found(
    tmp_path: Path, module: str, forbidden: str, contract: str
) -> None:
    copy_packages(tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{forbidden}\n")
    assert find_broken(tmp_path, contract)


@pytest.mark.parametrize("package", ["automations", "tracking"])
def test_a_module_outside_the_rooms_is_found(tmp_path: Path, package: str) -> None:
    copy_packages(tmp_path)
    (tmp_path / package / "spare.py").touch()
    assert find_broken(tmp_path, f"The rooms of {package}")


def copy_packages(tmp_path: Path) -> None:
    for package in ("project", "automations", "tracking"):
        shutil.copytree(
            ROOT / package,
            tmp_path / package,
            ignore=lambda folder, names: [
                name for name in names if Path(folder, name).is_file() and not name.endswith(".py")
            ],
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)


def find_broken(tmp_path: Path, contract: str) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-c", LINT_IMPORTS, "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 1, result.stdout + result.stderr
    broken = [line for line in result.stdout.splitlines() if " BROKEN" in line]
    return [line for line in broken if line.startswith(contract)]
