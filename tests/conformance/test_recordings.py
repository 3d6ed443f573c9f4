"""Executions and calls recorded on real AWS give the same here; what differs is known, with the reason.

The recordings are not part of the project. Where they stand beside it, every one is run.
"""

from typing import Any

import pytest

from tests.conformance.recordings import MISSING, Case, are_there, cases, name
from tests.conformance.report import DIFFERENCES, PAGE, allowances, differences
from tests.conformance.runs import LEVELS, compare


def _parameters() -> list[Any]:
    marks = {"slow": pytest.mark.slow}
    return [
        pytest.param(
            case, id=name(case), marks=[marks[flag] for flag in case.get("flags") or () if flag in marks]
        )
        for case in cases()
    ]


@pytest.mark.skipif(not are_there(), reason=MISSING)
@pytest.mark.parametrize("case", _parameters())
def test_what_was_recorded_on_aws_happens_here(shared_local: Any, case: Case) -> None:
    known = DIFFERENCES.get(name(case), {})

    result = compare(shared_local, case)

    differing = [level for level in LEVELS if result[level] is False]
    if known.get("sometimes") and not differing:
        return
    assert differing == known.get("levels", []), result["diffs"]


@pytest.mark.skipif(not are_there(), reason=MISSING)
def test_every_known_difference_is_of_a_recording() -> None:
    assert set(DIFFERENCES) <= {name(case) for case in cases()}
    assert all(difference["reason"] for difference in DIFFERENCES.values())


@pytest.mark.skipif(not are_there(), reason=MISSING)
def test_the_documentation_tells_the_allowances() -> None:
    assert allowances() in PAGE.read_text(), "run python tests/conformance/report.py"


def test_the_documentation_lists_what_differs() -> None:
    assert differences() in PAGE.read_text(), "run python tests/conformance/report.py"
