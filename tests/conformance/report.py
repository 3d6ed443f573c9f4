"""Writes docs/conformance.md: how many recorded executions come out as on AWS, and which do not, and why.

    python tests/conformance/report.py

It needs the recordings beside the project, and takes about two minutes.
"""

import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":  # a package named tests may be installed: ours comes first
    sys.path.insert(0, str(ROOT))
    ours = ModuleType("tests")
    ours.__path__ = [str(ROOT / "tests")]
    sys.modules["tests"] = ours

from tests.conformance.recordings import FILES, MISSING, are_there, cases  # noqa: E402
from tests.conformance.runs import LEVELS, compare  # noqa: E402

PAGE = ROOT / "docs" / "conformance.md"
DIFFERENCES: dict[str, dict[str, Any]] = tomllib.loads(
    Path(__file__).with_name("differences.toml").read_text()
)
_BEFORE = """# Conformance

The Step Functions engine is compared with executions and calls that were recorded on real AWS. The
recordings are not part of the project; where they stand beside it (`../shared/conformance`),
`tests/conformance/` runs every one against the local runtime over HTTP, and fails when one comes out
otherwise than listed here, also when it comes out better. Elsewhere these tests are skipped, and say so;
what the recordings teach is in the engine's own tests.

```
pytest tests/conformance                  # each recording is a test
python tests/conformance/report.py        # this page
```

Compared are: **L1** status, output and error name; **C** the text of the cause; **L2** the types of the
history's events in their order; **L3** the whole history, id by id, or the whole answer of a call. Times,
request ids and other random values are masked. Where branches run side by side AWS interleaves their events
at will: there the events of a segment are matched in any order.

"""
_ALLOWED = {
    "no_history": "only the result was recorded, no history: L2 and L3 have nothing to compare",
    "concurrent": "branches or iterations run side by side: their events are matched in any order",
    "history_unordered": "the recording has the events of a Parallel without ids and in no order",
    "abort_race": "how far the other branches came before they were aborted is a race on AWS",
    "random": "random numbers, ids and the clock: masked where the recording says so, else compared",
    "needs_fixing": "whoever recorded it marked it as in need of a fix: compared all the same",
    "not_in_validation_json": "the recording was not confirmed by a second run: compared all the same",
    "slow": 'a long wait: left out by `-m "not slow"`',
}
"""By the recordings' own marks, what is compared with an allowance."""


def main() -> None:
    if not are_there():
        sys.exit(MISSING)
    PAGE.write_text(_BEFORE + table(totals()) + allowances() + differences())


def totals() -> dict[str, Counter[str]]:
    """Of each file and level, how many cases have something to compare, and how many come out the same."""
    from tests.conftest import Local

    counted: dict[str, Counter[str]] = {file: Counter() for file in FILES}
    with tempfile.TemporaryDirectory() as folder:
        local = Local(Path(folder) / "data")
        local.start()
        try:
            for case in cases():
                result = compare(local, case)
                for level in LEVELS:
                    if result[level] is not None:
                        counted[case["file"]][f"{level} of"] += 1
                        counted[case["file"]][level] += bool(result[level])
        finally:
            local.stop()
    return counted


def table(counted: dict[str, Counter[str]]) -> str:
    whole: Counter[str] = sum(counted.values(), Counter())
    rows = [f"| recordings | {' | '.join(LEVELS)} |", "| --- |" + " ---: |" * len(LEVELS)]
    for name, count in [*counted.items(), ("all", whole)]:
        cells = [
            f"{count[level]} of {count[f'{level} of']}" if count[f"{level} of"] else "–" for level in LEVELS
        ]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n\n"


def allowances() -> str:
    """What the recordings themselves say can't be compared to the letter."""
    marked = Counter(flag for case in cases() for flag in case.get("flags") or ())
    rows = [f"| {marked[flag]} | {meaning} |" for flag, meaning in _ALLOWED.items()]
    return "## What is compared with an allowance\n\n| cases | |\n| ---: | --- |\n" + "\n".join(rows) + "\n\n"


def differences() -> str:
    """What is known to differ, by its reason."""
    reasons: dict[str, list[str]] = {}
    for name, difference in DIFFERENCES.items():
        levels = ", ".join(difference["levels"])
        reasons.setdefault(difference["reason"], []).append(f"`{name}` ({levels})")
    listed = [f"- {reason} {'; '.join(names)}." for reason, names in reasons.items()]
    return "## What differs, and why\n\n" + "\n".join(listed) + "\n"


if __name__ == "__main__":
    main()
