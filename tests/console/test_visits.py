"""What is read of histories: of states inside others that fail, are caught, retried, stopped and redriven."""

import json
import uuid
from typing import Any

import pytest

from stagegate.aws import Services
from stagegate.console.run_history import History
from stagegate.console.run_selected import Asked, select
from stagegate.console.run_view import read_run
from stagegate.console.visits import Visit
from stagegate.console.words import SHOWN_CHARACTERS
from tests.console.conftest import Runs

PASS = {"Type": "Pass", "End": True}
FAIL = {"Type": "Fail", "Error": "Bad", "Cause": "it is"}
CATCH = [{"ErrorEquals": ["States.ALL"], "Next": "After"}]


def inside(states: dict[str, Any]) -> dict[str, Any]:
    return {"StartAt": next(iter(states)), "States": states}


def told(runs: Runs, name: str, states: dict[str, Any], given: Any = None) -> list[tuple[str, str, str]]:
    """Each visit of a run that has ended: the state, the one around it, how it ended."""
    execution = runs.run(runs.machine(name, states), f"{name}-1", given)
    return in_short(visits_of(runs, execution))


def visits_of(runs: Runs, execution: str) -> list[Visit]:
    return History(Services(runs.config), execution).read().story.visits


def shown(runs: Runs, execution: str, state: str) -> Visit:
    """As the run's page shows it."""
    selected = select(read_run(Services(runs.config), execution, seconds=60), Asked(state=state))
    assert selected is not None and selected.visit is not None
    return selected.visit


def in_short(visits: list[Visit]) -> list[tuple[str, str, str]]:
    return [(visit.name, visit.holder.name if visit.holder else "", visit.status) for visit in visits]


def test_a_branch_that_fails_ends_the_others_and_is_caught_around_them(runs: Runs) -> None:
    slow = {"Type": "Wait", "Seconds": 9, "End": True}
    branches = [inside({"Slow": slow}), inside({"Good": PASS}), inside({"Bad": FAIL})]
    states = {
        "Both": {"Type": "Parallel", "Branches": branches, "Catch": CATCH, "Next": "After"},
        "After": PASS,
    }

    found = told(runs, "branches", states)

    assert sorted(found) == [
        ("After", "", "succeeded"),
        ("Bad", "Both", "failed"),
        ("Both", "", "caught"),
        ("Good", "Both", "succeeded"),
        ("Slow", "Both", "aborted"),
    ]


def test_an_item_that_fails_takes_the_states_around_it_along(runs: Runs) -> None:
    inner = {"Type": "Map", "ItemsPath": "$.Inner", "ItemProcessor": inside({"Bad": FAIL}), "End": True}
    states = {"Outer": {"Type": "Map", "ItemProcessor": inside({"Inner": inner}), "End": True}}

    found = told(runs, "items", states, [{"Inner": [1]}])

    assert found == [("Outer", "", "failed"), ("Inner", "Outer", "failed"), ("Bad", "Inner", "failed")]


def test_a_map_counts_its_items_and_a_retry_counts_them_anew(runs: Runs) -> None:
    check = {
        "Type": "Choice",
        "Choices": [{"Variable": "$", "NumericLessThan": 3, "Next": "Fine"}],
        "Default": "Bad",
    }
    retry = [{"ErrorEquals": ["Bad"], "IntervalSeconds": 1, "MaxAttempts": 1}]
    processor = {"ItemProcessor": inside({"Check": check, "Fine": PASS, "Bad": FAIL}), "MaxConcurrency": 1}
    states = {
        "Each": {"Type": "Map", **processor, "Retry": retry, "Catch": CATCH, "Next": "After"},
        "After": PASS,
    }
    execution = runs.run(runs.machine("counted", states), "counted-1", [1, 2, 3])

    visits = visits_of(runs, execution)

    each = visits[0]
    assert (each.name, each.status, each.retries) == ("Each", "caught", 1)
    assert (each.error, each.cause) == ("Bad", "it is")
    assert (each.items, each.items_succeeded, each.items_failed) == (3, 2, 1)
    assert [visit.name for visit in visits].count("Check") == 6


COMPUTED = {"Type": "Fail", "Error": "Bad", "CausePath": "$.Why"}
JSONATA = {"QueryLanguage": "JSONata", "Type": "Fail", "Error": "{% 'B' & 'ad' %}", "Cause": "it is"}


@pytest.mark.parametrize("fail", [FAIL, COMPUTED, JSONATA], ids=["written", "path", "jsonata"])
@pytest.mark.parametrize("around", ["Map", "Parallel"])
@pytest.mark.parametrize("is_caught", [True, False], ids=["caught", "uncaught"])
def test_a_fail_state_inside_another_has_its_error(
    runs: Runs, fail: dict[str, Any], around: str, is_caught: bool
) -> None:
    """AWS's events have it nowhere but in what catches it, or in the end of the execution."""
    branch = inside({"Bad": fail})
    parts = {"Map": {"ItemProcessor": branch, "ItemsPath": "$.Items"}, "Parallel": {"Branches": [branch]}}
    catch = {"Catch": CATCH, "Next": "After"} if is_caught else {"Next": "After"}
    states = {"Around": {"Type": around, **parts[around], **catch}, "After": PASS}
    given = {"Items": [{"Why": "it is"}], "Why": "it is"}
    execution = runs.run(runs.machine(f"fails-{uuid.uuid4()}", states), "fails-1", given)

    bad, holder = shown(runs, execution, "Bad"), shown(runs, execution, "Around")

    assert (bad.status, bad.error, bad.cause) == ("failed", "Bad", "it is")
    assert (holder.status, holder.error, holder.cause) == (
        *("caught" if is_caught else "failed", "Bad"),
        "it is",
    )


def test_what_a_catcher_leaves_elsewhere_is_not_taken_for_the_error(runs: Runs) -> None:
    catch = [CATCH[0] | {"ResultPath": "$.Failure"}]
    branches = {"Branches": [inside({"Bad": FAIL})], "Catch": catch, "Next": "After"}
    states = {"Both": {"Type": "Parallel", **branches}, "After": PASS}
    execution = runs.run(runs.machine("elsewhere", states), "elsewhere-1", {"Error": "Old", "Cause": "old"})

    found = [shown(runs, execution, name) for name in ("Bad", "Both")]

    assert [(visit.error, visit.cause) for visit in found] == [("Bad", "it is")] * 2


@pytest.mark.parametrize("kind", ["Task", "Parallel"])
def test_a_redrive_opens_what_had_not_succeeded(runs: Runs, kind: str) -> None:
    worker = runs.client.create_activity(name=f"redriven-{kind}")["activityArn"]
    hold = {"Hold": {"Type": "Task", "Resource": worker, "End": True}}
    around = {"All": {"Type": kind, "Branches": [inside(hold)], "End": True}}
    states = hold if kind == "Task" else around
    execution = runs.start(runs.machine(f"redriven-{kind}", states), "redriven-1")
    history = History(Services(runs.config), execution)
    runs.client.get_activity_task(activityArn=worker)
    runs.client.stop_execution(executionArn=execution)
    stopped = in_short(history.read().story.visits)
    runs.client.redrive_execution(executionArn=execution)
    task = runs.client.get_activity_task(activityArn=worker)
    runs.client.send_task_success(taskToken=task["taskToken"], output="{}")
    runs.ended(execution)

    redriven = in_short(history.read().story.visits)

    assert {status for _, _, status in stopped} == {"aborted"}
    assert redriven == [(name, holder, "succeeded") for name, holder, _ in stopped]


def test_long_texts_are_cut(runs: Runs) -> None:
    long = "x" * 40_000
    execution = runs.run(runs.machine("long", {"Only": PASS}), "long-1", long)

    (visit,) = visits_of(runs, execution)

    assert visit.input == f"{json.dumps(long)[:SHOWN_CHARACTERS]}… (7,234 characters more)"
