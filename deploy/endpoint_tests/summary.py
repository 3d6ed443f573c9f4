"""The summary of a session: the state machine reads it, the mail that asks for approval shows its `text`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from findings import Findings, Outcome

TEXT_LENGTH = 2000


def summarise(findings: Findings) -> dict[str, Any]:
    measured = findings.measured
    return {
        "stage": findings.stage,
        "endpoint": findings.endpoint,
        **{outcome: findings.count(outcome) for outcome in ("passed", "failed", "skipped")},
        "seconds": round(findings.seconds, 2),
        "failures": [f"{failure.name}: {failure.reason}" for failure in findings.failures],
        # JSON knows no infinity.
        "measured": {name: round(value, 4) for name, value in measured.items() if math.isfinite(value)},
        "limits": {name: {kind: limit} for name, (kind, limit) in measured.limits.items()},
        "text": text_of(findings),
    }


def text_of(findings: Findings) -> str:
    """What failed and the numbers, in 2,000 characters: where they are too many, the last failures go."""
    if not findings.outcomes:
        return "No test ran."
    counts = f"{findings.count('passed')} of {len(findings.outcomes)} passed"
    if findings.count("skipped"):
        counts += f", {findings.count('skipped')} skipped"
    numbers = [_number(findings, name) for name in findings.measured]
    failures = [
        f"{first.name}{f' and {more} more' if more else ''}: {first.reason}"
        for first, more in together(findings.failures)
    ]
    for shown in range(len(failures), -1, -1):
        left = len(failures) - shown
        rest = [f"and {left} more that failed"] if left else []
        text = "; ".join([counts, *failures[:shown], *rest, *numbers]) + "."
        if len(text) <= TEXT_LENGTH:
            return text
    return text[: TEXT_LENGTH - 1] + "…"


def together(failures: list[Outcome]) -> list[tuple[Outcome, int]]:
    """Failures, and how many more there are of the same test, or for the same reason."""
    firsts: list[Outcome] = []
    more: list[int] = []
    for failure in failures:
        for place, first in enumerate(firsts):
            if failure.reason == first.reason or failure.test == first.test:
                more[place] += 1
                break
        else:
            firsts.append(failure)
            more.append(0)
    return list(zip(firsts, more, strict=True))


def _number(findings: Findings, name: str) -> str:
    text = f"{name} {findings.measured[name]:.4g}"
    if name not in findings.measured.limits:
        return text
    kind, limit = findings.measured.limits[name]
    return f"{text} ({kind} {limit:.4g})"
