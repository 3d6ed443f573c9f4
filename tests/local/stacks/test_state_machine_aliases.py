"""Versions of state machines, and aliases that move to them, in a stack."""

import asyncio

import pytest

from stagegate.local.services import SERVICES
from tests.local.stacks.conftest import body, resource, template

ROLE = "arn:aws:iam::111111111111:role/states"
MACHINE = "arn:aws:states:us-east-1:111111111111:stateMachine:it"


def machine(result, **alias):
    """A state machine, the version of what it is now, and an alias to that."""
    definition = {"StartAt": "It", "States": {"It": {"Type": "Pass", "Result": result, "End": True}}}
    version = {"Fn::GetAtt": ["Version", "Arn"]}
    preference = alias.pop("DeploymentPreference", {"Type": "ALL_AT_ONCE"})
    return template(
        Machine=resource(
            "AWS::StepFunctions::StateMachine", StateMachineName="it", RoleArn=ROLE, Definition=definition
        ),
        Version=resource(
            "AWS::StepFunctions::StateMachineVersion",
            StateMachineArn={"Ref": "Machine"},
            StateMachineRevisionId={"Fn::GetAtt": ["Machine", "StateMachineRevisionId"]},
        ),
        Alias=resource(
            "AWS::StepFunctions::StateMachineAlias",
            Name="live",
            DeploymentPreference={**preference, "StateMachineVersionArn": version},
            **alias,
        ),
    )


@pytest.fixture
async def stacks(open_stacks, monkeypatch):
    monkeypatch.setattr("stagegate.local.stacks.resources.stepfunctions_aliases.MINUTE", 0.2)
    monkeypatch.setattr("stagegate.local.stacks.resources.stepfunctions_aliases._ALARM_SECONDS", 0.05)
    services = {name: SERVICES[name] for name in ("stepfunctions", "cloudwatch")}
    async with open_stacks(**services) as opened:
        yield opened


async def routes(stacks):
    alias = await stacks.call(
        "DescribeStateMachineAlias", "stepfunctions", stateMachineAliasArn=f"{MACHINE}:live"
    )
    return [
        (route["stateMachineVersionArn"].rpartition(":")[2], route["weight"])
        for route in alias["routingConfiguration"]
    ]


async def versions(stacks):
    listed = await stacks.call("ListStateMachineVersions", "stepfunctions", stateMachineArn=MACHINE)
    return [it["stateMachineVersionArn"].rpartition(":")[2] for it in listed["stateMachineVersions"]]


async def test_each_revision_is_a_version_and_the_alias_moves_to_it(stacks):
    created = await stacks.create("it", machine("one"))
    first = (await versions(stacks), await routes(stacks))
    updated = await stacks.update("it", machine("two"))
    second = (await versions(stacks), await routes(stacks))
    deleted = await stacks.delete("it")

    assert (first, second) == ((["1"], [("1", 100)]), (["2"], [("2", 100)]))
    statuses = (created["StackStatus"], updated["StackStatus"], deleted["StackStatus"])
    assert statuses == ("CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE")


@pytest.mark.parametrize(
    ("preference", "weights"),
    [
        ({"Type": "CANARY", "Percentage": 10, "Interval": 1}, [10, 100]),
        ({"Type": "LINEAR", "Percentage": 40, "Interval": 1}, [40, 80, 100]),
    ],
)
async def test_an_alias_moves_step_by_step(stacks, preference, weights):
    await stacks.create("it", machine("one", DeploymentPreference=preference))
    seen = []

    await stacks.call(
        "UpdateStack",
        StackName="it",
        TemplateBody=body(machine("two", DeploymentPreference=preference)),
    )
    while not seen or seen[-1] != [("2", 100)]:
        now = await routes(stacks)
        if now != [("1", 100)] and (not seen or seen[-1] != now):
            seen.append(now)
        await asyncio.sleep(0.02)
    stack = await stacks.ended("it")

    assert [dict(it)["2"] for it in seen] == weights
    assert stack["StackStatus"] == "UPDATE_COMPLETE"


async def test_a_raised_alarm_brings_the_alias_back(stacks):
    preference = {"Type": "CANARY", "Percentage": 50, "Interval": 500, "Alarms": ["failures"]}
    alarm = {
        "AlarmName": "failures", "Namespace": "x", "MetricName": "y", "Period": 60, "EvaluationPeriods": 1,
        "Threshold": 1, "ComparisonOperator": "GreaterThanThreshold", "Statistic": "Sum",
    }  # fmt: skip
    await stacks.call("PutMetricAlarm", "cloudwatch", **alarm)
    await stacks.create("it", machine("one", DeploymentPreference=preference))

    wanted = body(machine("two", DeploymentPreference=preference))
    await stacks.call("UpdateStack", StackName="it", TemplateBody=wanted)
    while await routes(stacks) == [("1", 100)]:  # noqa: ASYNC110 - nothing announces an alias
        await asyncio.sleep(0.02)
    during = await routes(stacks)
    members = {"AlarmName": "failures", "StateValue": "ALARM", "StateReason": "a test"}
    await stacks.call("SetAlarmState", "cloudwatch", **members)
    stack = await stacks.ended("it")
    reasons = [event[2] for event in await stacks.events("it") if event[1] == "UPDATE_FAILED"]

    assert during == [("2", 50), ("1", 50)]
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert "Alarms went into ALARM state: failures" in reasons[0]
    assert (await routes(stacks), await versions(stacks)) == ([("1", 100)], ["1"])


async def test_an_alias_has_routes_or_a_preference(stacks):
    wanted = machine("one", RoutingConfiguration=[{"StateMachineVersionArn": "x", "Weight": 100}])

    stack = await stacks.create("it", wanted)
    reasons = [event[2] for event in await stacks.events("it") if event[1] == "CREATE_FAILED"]

    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "One of RoutingConfiguration and DeploymentPreference must be given, not both." in reasons[0]


async def test_a_revision_that_a_rollback_has_made_is_no_update(stacks):
    await stacks.create("it", machine("one"))
    failing = machine("two")
    failing["Resources"]["Broken"] = {
        **resource("AWS::SSM::Parameter", Type="Strange", Value="x"), "DependsOn": "Alias",
    }  # fmt: skip

    rolled_back = await stacks.update("it", failing)
    again = await stacks.refused("UpdateStack", StackName="it", TemplateBody=body(machine("one")))

    assert rolled_back["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert again == ("ValidationError", "No updates are to be performed.")
    assert (await routes(stacks), await versions(stacks)) == ([("1", 100)], ["1"])
