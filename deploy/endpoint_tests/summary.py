"""The summary that a test session leaves, passed or not: reports/summary.json.

The state machine reads it, and the mail that asks for approval shows its `text`.
"""

import json
import os
import time
from pathlib import Path

import pytest

REPORTS = Path("reports")
TEXT_LENGTH = 2000
REASON_LENGTH = 300


class Summary:
    """Counts the outcomes of one session, and keeps the numbers that its tests have measured."""

    def __init__(self) -> None:
        self.measured: dict[str, float] = {}
        self._counts = {"passed": 0, "failed": 0, "skipped": 0}
        self._failures: list[str] = []
        self._began = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self._counts[report.outcome] += 1
        if report.failed:
            self._failures.append(f"{_name(report.nodeid)}: {_reason(report)}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._counts["failed"] += 1
            self._failures.append(f"{_name(report.nodeid)}: {_reason(report)}")

    def pytest_sessionfinish(self) -> None:
        summary = {
            "stage": os.environ.get("STAGE", ""),
            "endpoint": os.environ.get("ENDPOINT_NAME", ""),
            **self._counts,
            "seconds": round(time.monotonic() - self._began, 2),
            "failures": self._failures,
            "measured": {name: round(value, 4) for name, value in self.measured.items()},
            "text": self._text()[:TEXT_LENGTH],
        }
        REPORTS.mkdir(exist_ok=True)
        (REPORTS / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")

    def _text(self) -> str:
        total = sum(self._counts.values())
        if not total:
            return "No test ran."
        parts = [f"{self._counts['passed']} of {total} passed", *self._failures]
        parts += [f"{name} {value:.4g}" for name, value in self.measured.items()]
        return "; ".join(parts) + "."


def _name(nodeid: str) -> str:
    """`test_latency.py::test_one`, without the folders."""
    path, separator, rest = nodeid.partition("::")
    return path.rpartition("/")[2] + separator + rest


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The first line of a failed test's error, the last of a file that could not be read."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash:
        text = crash.message.strip().splitlines()
        return text[0][:REASON_LENGTH] if text else "no message"
    lines = [line.removeprefix("E").strip() for line in str(report.longrepr).splitlines()]
    return next((line for line in reversed(lines) if line), "no message")[:REASON_LENGTH]
