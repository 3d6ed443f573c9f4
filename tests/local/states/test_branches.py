"""Parallel and Map: what runs side by side, in which order it is written down, and what a failure does."""

import asyncio
import itertools
from typing import Any

import pytest

from tests.local.states.conftest import Machines, only

_numbers = itertools.count()


def branch(*states: dict[str, Any]) -> dict[str, Any]:
    """A branch of these states, one after the other."""
    names = [f"{state['Type']}-{next(_numbers)}" for state in states]
    ends: list[dict[str, Any]] = [{"Next": name} for name in names[1:]] + [{"End": True}]
    ends = [{} if state["Type"] == "Fail" else end for state, end in zip(states, ends, strict=True)]
    chained = {name: {**state, **end} for name, state, end in zip(names, states, ends, strict=True)}
    return {"StartAt": names[0], "States": chained}


def item_map(*states: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"Type": "Map", "ItemProcessor": branch(*states), **fields}


async def test_the_branches_of_a_parallel_get_its_input_and_give_their_outputs_in_order(
    machines: Machines,
) -> None:
    state = {
        "Type": "Parallel",
        "Parameters": {"n.$": "$.n"},
        "Branches": [
            branch({"Type": "Wait", "Seconds": 1}, {"Type": "Pass", "Result": "slow"}),
            branch({"Type": "Pass"}),
        ],
        "ResultSelector": {"first.$": "$[0]", "second.$": "$[1].n"},
        "ResultPath": "$.results",
    }

    assert await machines.output(state, {"n": 3}) == {"n": 3, "results": {"first": "slow", "second": 3}}


async def test_the_history_of_a_parallel(machines: Machines) -> None:
    state = {
        "Type": "Parallel",
        "Branches": [branch({"Type": "Pass"}), branch({"Type": "Succeed", "Comment": "x"})],
    }
    state["Branches"][1]["States"] = {"Done": {"Type": "Succeed"}}
    state["Branches"][1]["StartAt"] = "Done"

    ended = await machines.run(only(state), 1)

    assert ended.links == [
        (1, 0, "ExecutionStarted"),
        (2, 0, "ParallelStateEntered"),
        (3, 2, "ParallelStateStarted"),
        (4, 3, "PassStateEntered"),
        (5, 4, "PassStateExited"),
        (6, 3, "SucceedStateEntered"),
        (7, 6, "SucceedStateExited"),
        (8, 7, "ParallelStateSucceeded"),
        (9, 7, "ParallelStateExited"),
        (10, 9, "ExecutionSucceeded"),
    ]


async def test_a_map_goes_through_its_items(machines: Machines) -> None:
    state = item_map(
        {"Type": "Pass"},
        InputPath="$.batch",
        ItemsPath="$.items",
        ItemSelector={
            "index.$": "$$.Map.Item.Index",
            "value.$": "$$.Map.Item.Value",
            "model.$": "$.model",
            "state.$": "$$.State.Name",
        },
        ResultPath="$.results",
    )
    data = {"batch": {"items": ["a", "b"], "model": "m"}}

    assert await machines.output(state, data) == {
        **data,
        "results": [
            {"index": 0, "value": "a", "model": "m", "state": "State"},
            {"index": 1, "value": "b", "model": "m", "state": "State"},
        ],
    }


async def test_the_states_of_an_iteration_see_their_item_and_their_own_variables(machines: Machines) -> None:
    definition = {
        "StartAt": "Begin",
        "States": {
            "Begin": {"Type": "Pass", "Assign": {"base": 10}, "Next": "Each"},
            "Each": {
                **item_map(
                    {"Type": "Pass", "Assign": {"mine.$": "States.MathAdd($base, $$.Map.Item.Value)"}},
                    {"Type": "Pass", "Parameters": {"mine.$": "$mine", "index.$": "$$.Map.Item.Index"}},
                ),
                "Next": "After",
            },
            "After": {"Type": "Pass", "Parameters": {"list.$": "$", "base.$": "$base"}, "End": True},
        },
    }

    ended = await machines.run(definition, [1, 2])

    assert ended.output == {"base": 10, "list": [{"mine": 11, "index": 0}, {"mine": 12, "index": 1}]}


async def test_the_history_of_a_map_that_takes_one_item_after_the_other(machines: Machines) -> None:
    ended = await machines.run(only(item_map({"Type": "Pass"}, MaxConcurrency=1)), ["a", "b"])

    assert ended.links == [
        (1, 0, "ExecutionStarted"),
        (2, 0, "MapStateEntered"),
        (3, 2, "MapStateStarted"),
        (4, 3, "MapIterationStarted"),
        (5, 4, "PassStateEntered"),
        (6, 5, "PassStateExited"),
        (7, 6, "MapIterationSucceeded"),
        (8, 6, "MapIterationStarted"),
        (9, 8, "PassStateEntered"),
        (10, 9, "PassStateExited"),
        (11, 10, "MapIterationSucceeded"),
        (12, 11, "MapStateSucceeded"),
        (13, 11, "MapStateExited"),
        (14, 13, "ExecutionSucceeded"),
    ]
    assert ended.details("MapStateStarted") == [{"length": 2}]
    assert ended.details("MapIterationStarted") == [
        {"index": 0, "name": "State"},
        {"index": 1, "name": "State"},
    ]


async def test_a_map_of_nothing_succeeds_with_nothing(machines: Machines) -> None:
    ended = await machines.run(only(item_map({"Type": "Pass"})), [])

    assert ended.output == []
    assert ended.links[2:] == [
        (3, 2, "MapStateStarted"),
        (4, 3, "MapStateSucceeded"),
        (5, 3, "MapStateExited"),
        (6, 5, "ExecutionSucceeded"),
    ]


@pytest.mark.parametrize(
    ("limit", "most"), [({"MaxConcurrency": 2}, 2), ({"MaxConcurrencyPath": "$.limit"}, 3), ({}, 6)]
)
async def test_a_map_runs_at_most_so_many_iterations_at_once(
    machines: Machines, limit: dict[str, Any], most: int
) -> None:
    running, seen = set[int](), []

    async def invoke(*, Payload: bytes, **_: Any) -> dict[str, Any]:

        running.add(int(Payload))
        seen.append(len(running))
        await asyncio.sleep(0.02)
        running.discard(int(Payload))
        return {"Payload": Payload}

    machines.operations["lambda", "Invoke"] = invoke
    task = {"Type": "Task", "Resource": "arn:aws:lambda:us-east-1:111111111111:function:f"}

    output = await machines.output(
        item_map(task, ItemsPath="$.items", **limit), {"items": [1, 2, 3, 4, 5, 6], "limit": 3}
    )

    assert (output, max(seen)) == ([1, 2, 3, 4, 5, 6], most)


async def test_items_that_are_no_array_fail(machines: Machines) -> None:
    assert await machines.failure(item_map({"Type": "Pass"}, ItemsPath="$.x"), {"x": 1}) == (
        "States.Runtime",
        "An error occurred while executing the state 'State' (entered at the event id #2). "
        'Reference path "$.x" must point to array.',
    )


async def test_when_an_iteration_fails_the_others_are_given_up(machines: Machines) -> None:
    processor = {
        "StartAt": "Which",
        "States": {
            "Which": {
                "Type": "Choice",
                "Choices": [{"Variable": "$", "NumericEquals": 2, "Next": "Bad"}],
                "Default": "Long",
            },
            "Bad": {"Type": "Fail", "Error": "Bad", "Cause": "two"},
            "Long": {"Type": "Wait", "Seconds": 60, "End": True},
        },
    }

    ended = await machines.run(only({"Type": "Map", "ItemProcessor": processor}), [1, 2, 3])

    assert (ended.status, ended.error, ended.cause) == ("FAILED", "Bad", "two")
    assert ended.links[6:] == [
        (7, 4, "ChoiceStateEntered"),
        (8, 7, "ChoiceStateExited"),
        (9, 8, "WaitStateEntered"),
        (10, 5, "ChoiceStateEntered"),
        (11, 10, "ChoiceStateExited"),
        (12, 11, "FailStateEntered"),
        (13, 12, "MapIterationFailed"),
        (14, 12, "MapIterationAborted"),
        (15, 12, "WaitStateAborted"),
        (16, 12, "MapIterationAborted"),
        (17, 12, "MapStateFailed"),
        (18, 17, "ExecutionFailed"),
    ]


async def test_a_failed_branch_can_be_caught(machines: Machines) -> None:
    definition = {
        "StartAt": "Both",
        "States": {
            "Both": {
                "Type": "Parallel",
                "Branches": [
                    branch({"Type": "Fail", "Error": "Bad", "Cause": "why"}),
                    branch({"Type": "Wait", "Seconds": 60}),
                ],
                "Catch": [{"ErrorEquals": ["Bad"], "ResultPath": "$.error", "Next": "Caught"}],
                "End": True,
            },
            "Caught": {"Type": "Pass", "End": True},
        },
    }

    ended = await machines.run(definition, {"n": 1})

    assert ended.output == {"n": 1, "error": {"Error": "Bad", "Cause": "why"}}
    assert ended.links[3:] == [
        (4, 3, "FailStateEntered"),
        (5, 4, "ParallelStateFailed"),
        (6, 5, "ParallelStateExited"),
        (7, 6, "PassStateEntered"),
        (8, 7, "PassStateExited"),
        (9, 8, "ExecutionSucceeded"),
    ]


async def test_a_map_is_retried_as_a_whole(machines: Machines) -> None:
    state = item_map(
        {"Type": "Fail", "Error": "Bad"},
        Retry=[{"ErrorEquals": ["Bad"], "MaxAttempts": 1, "IntervalSeconds": 1}],
    )

    ended = await machines.run(only(state), [1])

    assert ended.links[2:] == [
        (3, 2, "MapStateStarted"),
        (4, 3, "MapIterationStarted"),
        (5, 4, "FailStateEntered"),
        (6, 5, "MapIterationFailed"),
        (7, 5, "MapStateStarted"),
        (8, 7, "MapIterationStarted"),
        (9, 8, "FailStateEntered"),
        (10, 9, "MapIterationFailed"),
        (11, 9, "MapStateFailed"),
        (12, 11, "ExecutionFailed"),
    ]
