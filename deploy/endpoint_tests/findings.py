"""What a test session finds: how each test ended, the numbers measured, the load, the answers.

It is written when the session ends, passed or not: reports/summary.json for the state machine and the
approval mail, reports/report.html for a person.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from load import Load
from numpy.typing import NDArray
from report import page
from summary import summarise

REPORTS = Path("reports")
REASON_LENGTH = 300


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one test ended: passed, failed or skipped."""

    name: str
    outcome: str
    seconds: float
    reason: str = ""

    @property
    def test(self) -> str:
        """Its name without its parameters."""
        return self.name.partition("[")[0]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image of the sample, and what the endpoint said of it."""

    image: NDArray[Any]
    true: str
    predicted: str
    probability: float


class Measured(dict[str, float]):
    """Numbers for the summary: `measured["accuracy"] = 0.9`; those that have a limit are held to it."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: dict[str, tuple[str, float]] = {}

    def at_most(self, name: str, value: float, limit: float) -> None:
        self[name], self.limits[name] = value, ("at most", limit)
        assert value <= limit, f"{name} is {value:.4g}; it has to be at most {limit:g}"

    def at_least(self, name: str, value: float, limit: float) -> None:
        self[name], self.limits[name] = value, ("at least", limit)
        assert value >= limit, f"{name} is {value:.4g}; it has to be at least {limit:.4g}"

    def is_kept(self, name: str) -> bool:
        kind, limit = self.limits.get(name, ("", 0.0))
        return {"at most": self[name] <= limit, "at least": self[name] >= limit}.get(kind, True)


class Findings:
    """Listens to pytest, and is what the tests' fixtures write to."""

    def __init__(self) -> None:
        self.stage = os.environ.get("STAGE", "")
        self.endpoint = os.environ.get("ENDPOINT_NAME", "")
        self.model_package = os.environ.get("MODEL_PACKAGE_ARN", "")
        self.outcomes: list[Outcome] = []
        self.measured = Measured()
        self.load: Load | None = None
        self.pictures: list[Picture] = []
        self.seconds = 0.0
        self._began = time.monotonic()

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.outcome == "failed"]

    def count(self, outcome: str) -> int:
        return sum(one.outcome == outcome for one in self.outcomes)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self._add(report, report.duration)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._add(report, 0.0)

    def pytest_sessionfinish(self) -> None:
        self.seconds = time.monotonic() - self._began
        REPORTS.mkdir(exist_ok=True)
        text = json.dumps(summarise(self), indent=2)
        (REPORTS / "summary.json").write_text(text + "\n", encoding="utf-8")
        (REPORTS / "report.html").write_text(page(self), encoding="utf-8")

    def _add(self, report: pytest.TestReport | pytest.CollectReport, seconds: float) -> None:
        path, separator, rest = report.nodeid.partition("::")
        self.outcomes.append(
            Outcome(
                name=path.rpartition("/")[2] + separator + rest,
                outcome=report.outcome,
                seconds=seconds,
                reason="" if report.passed else _reason(report),
            )
        )


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """What a test says of its end: the first line of an error, the last of a file that could not be read."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if report.skipped and isinstance(report.longrepr, tuple):
        text = str(report.longrepr[2]).removeprefix("Skipped: ")
    elif crash:
        text = next(iter(crash.message.strip().splitlines()), "")
    else:
        lines = [line.removeprefix("E").strip() for line in str(report.longrepr).splitlines()]
        text = next((line for line in reversed(lines) if line), "")
    for prefix in ("AssertionError: ", "Failed: "):
        text = text.removeprefix(prefix)
    return text[:REASON_LENGTH] or "no message"
