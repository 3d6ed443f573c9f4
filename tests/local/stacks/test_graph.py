"""The order of resources: what needs what, what goes at the same time, what stops at a failure."""

import asyncio

import pytest

from stagegate.local.service import AWSError
from stagegate.local.stacks.graph import dependencies, in_order, in_sequence, reversed_order
from stagegate.local.stacks.intrinsics import Evaluator
from stagegate.local.stacks.template import parse


def evaluator(text):
    return Evaluator(
        template=parse(text), parameters={"P": "x"}, pseudo={"AWS::Region": "r"}, resources=None  # type: ignore[arg-type]
    )  # fmt: skip


def test_references_of_every_kind_are_needs_and_branches_not_taken_are_none():
    text = """
Parameters: {P: {Type: String}}
Conditions: {Never: !Equals [a, b]}
Resources:
  A: {Type: T}
  B: {Type: T, Properties: {x: !Ref A, p: !Ref P}}
  C: {Type: T, Properties: {x: [!GetAtt B.Arn]}}
  D: {Type: T, Properties: {x: !Sub ["${A.Arn} ${v} ${!B} ${AWS::Region}", {v: !Ref C}]}}
  E: {Type: T, DependsOn: [A, D]}
  F: {Type: T, DependsOn: A, Properties: {x: !If [Never, !Ref E, !Ref B]}}
  G: {Type: T, Condition: Never}
"""

    needs = dependencies(evaluator(text))

    assert needs == {
        "A": frozenset(),
        "B": frozenset("A"),
        "C": frozenset("B"),
        "D": frozenset("AC"),
        "E": frozenset("AD"),
        "F": frozenset("AB"),
    }
    assert in_sequence(needs) == ["A", "B", "C", "F", "D", "E"]
    assert reversed_order(needs)["A"] == frozenset("BDEF")


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (
            "A: {Type: T, DependsOn: B}\n  B: {Type: T, Properties: {x: !Ref A}}",
            "Circular dependency between resources: [A, B]",
        ),
        (
            "A: {Type: T, Properties: {x: !Ref Nope}}",
            "Template format error: Unresolved resource dependencies [Nope] in the Resources block of the "
            "template",
        ),
    ],
)
def test_circles_and_unknown_names_are_refused(resources, message):
    with pytest.raises(AWSError) as caught:
        dependencies(evaluator(f"Resources:\n  {resources}\n"))

    assert caught.value.message == message


async def test_what_does_not_need_each_other_goes_at_the_same_time():
    both = asyncio.Barrier(2)
    done = []

    async def work(name):
        if name in "AB":
            await asyncio.wait_for(both.wait(), 5)
        done.append(name)

    failures = await in_order({"A": frozenset(), "B": frozenset(), "C": frozenset("AB")}, work)

    assert (failures, done[-1], sorted(done)) == ({}, "C", ["A", "B", "C"])


async def test_after_a_failure_nothing_new_begins_and_what_is_under_way_may_give_up():
    failing = asyncio.Event()
    begun = []

    async def work(name):
        begun.append(name)
        if name == "A":
            raise RuntimeError("broken")
        await asyncio.wait_for(failing.wait(), 5)

    failures = await in_order(
        {"A": frozenset(), "B": frozenset(), "C": frozenset("B"), "D": frozenset("A")}, work, failing=failing
    )

    assert (begun, list(failures)) == (["A", "B"], ["A"])


async def test_without_a_stop_only_what_needs_the_failed_one_is_left_out():
    begun = []

    async def work(name):
        begun.append(name)
        if name == "A":
            raise RuntimeError("broken")

    await in_order({"A": frozenset(), "B": frozenset(), "C": frozenset("B"), "D": frozenset("A")}, work)

    assert begun == ["A", "B", "C"]
