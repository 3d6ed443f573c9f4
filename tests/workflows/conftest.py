"""The rendered state machines, and npm's asl-validator."""

import json
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.states.definition import Retrier
from tests.node import node_modules

ROOT = Path(__file__).parents[2]
MACHINES = ("ci", "model-build", "model-deploy")


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each of the definitions."""
    return read_machine(request.param)


@pytest.fixture(autouse=True)
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Retries come at once; gives how long each would have waited at most, in their order."""
    waited: list[float] = []
    longest = Retrier.delay

    def at_once(retrier: Retrier, attempt: int) -> float:
        waited.append(longest(retrier, attempt))
        return 0.0

    monkeypatch.setattr(Retrier, "delay", at_once)
    return waited


def read_machine(name: str) -> dict[str, Any]:
    definition: dict[str, Any] = json.loads((ROOT / "statemachines" / f"{name}.asl.json").read_text())
    return definition


@pytest.fixture(scope="session")
def asl_validator() -> Path:
    """The validator's JavaScript file, as tests/package-lock.json has it."""
    return node_modules() / "asl-validator" / "dist" / "bin" / "asl-validator.js"
