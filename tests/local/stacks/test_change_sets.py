"""Change sets: what they say of an update, and that executing one makes it."""

import json

from tests.local.stacks.conftest import body, resource, template

PARAMETER = "AWS::SSM::Parameter"


def parameter(value, **properties):
    return resource(PARAMETER, Type="String", Value=value, **properties)


async def test_a_change_set_says_what_is_added_changed_replaced_and_removed(stacks):
    await stacks.create(
        "shown",
        template(
            Changed=parameter("1"), Renamed=parameter("r", Name="old"), Removed=parameter("x"),
            Follower=parameter({"Ref": "Renamed"}),
        ),
    )  # fmt: skip
    physical = await stacks.physical("shown")
    wanted = template(
        Changed=parameter("2"), Renamed=parameter("r", Name="new"), Added=parameter("a"),
        Follower=parameter({"Ref": "Renamed"}),
    )  # fmt: skip

    made = await stacks.call(
        "CreateChangeSet", StackName="shown", ChangeSetName="next", TemplateBody=body(wanted)
    )
    shown = await stacks.call("DescribeChangeSet", StackName="shown", ChangeSetName="next")

    def modify(name, replacement, *details):
        return {
            "Action": "Modify", "LogicalResourceId": name, "PhysicalResourceId": physical[name],
            "ResourceType": PARAMETER, "Replacement": replacement, "Scope": ["Properties"],
            "Details": list(details),
        }  # fmt: skip

    def detail(name, requires, evaluation="Static", source="DirectModification"):
        target = {"Attribute": "Properties", "Name": name, "RequiresRecreation": requires}
        return {"Target": target, "Evaluation": evaluation, "ChangeSource": source}

    changes = {it["ResourceChange"]["LogicalResourceId"]: it["ResourceChange"] for it in shown.pop("Changes")}
    assert shown == {
        "ChangeSetName": "next",
        "ChangeSetId": made["Id"],
        "StackId": made["StackId"],
        "StackName": "shown",
        "CreationTime": shown["CreationTime"],
        "Status": "CREATE_COMPLETE",
        "ExecutionStatus": "AVAILABLE",
        "Parameters": [],
        "Capabilities": [],
        "Tags": [],
        "NotificationARNs": [],
        "RollbackConfiguration": {},
        "IncludeNestedStacks": False,
    }
    assert changes == {
        "Changed": modify("Changed", "False", detail("Value", "Never")),
        "Renamed": modify("Renamed", "True", detail("Name", "Always")),
        "Follower": modify(
            "Follower", "False", detail("Value", "Never", "Dynamic", "ResourceReference")
        ),
        "Added": {
            "Action": "Add", "LogicalResourceId": "Added", "ResourceType": PARAMETER, "Scope": [],
            "Details": [],
        },
        "Removed": {
            "Action": "Remove", "LogicalResourceId": "Removed", "PhysicalResourceId": physical["Removed"],
            "ResourceType": PARAMETER, "Scope": [], "Details": [], "PolicyAction": "Delete",
        },
    }  # fmt: skip


async def test_the_values_of_properties_are_told_where_they_are_asked_for(stacks):
    await stacks.create("valued", template(One=parameter("1", Description="old"), Other=parameter("x")))
    wanted = template(
        One=parameter("2", Tags={"a": "b"}), Other=parameter({"Ref": "New"}), New=parameter("n")
    )
    await stacks.call("CreateChangeSet", StackName="valued", ChangeSetName="next", TemplateBody=body(wanted))

    shown = await stacks.call(
        "DescribeChangeSet", StackName="valued", ChangeSetName="next", IncludePropertyValues=True
    )

    changes = {it["ResourceChange"]["LogicalResourceId"]: it["ResourceChange"] for it in shown["Changes"]}
    targets = {detail["Target"]["Path"]: detail["Target"] for detail in changes["One"]["Details"]}
    assert targets == {
        "/Properties/Description": {
            "Attribute": "Properties", "Name": "Description", "Path": "/Properties/Description",
            "RequiresRecreation": "Never", "AttributeChangeType": "Remove", "BeforeValue": "old",
        },
        "/Properties/Tags": {
            "Attribute": "Tags", "Path": "/Properties/Tags", "RequiresRecreation": "Never",
            "AttributeChangeType": "Add", "AfterValue": '{"a": "b"}',
        },
        "/Properties/Value": {
            "Attribute": "Properties", "Name": "Value", "Path": "/Properties/Value",
            "RequiresRecreation": "Never", "AttributeChangeType": "Modify",
            "BeforeValue": "1", "AfterValue": "2",
        },
    }  # fmt: skip
    assert json.loads(changes["New"]["AfterContext"]) == {"Properties": {"Type": "String", "Value": "n"}}
    assert json.loads(changes["Other"]["BeforeContext"]) == {"Properties": {"Type": "String", "Value": "x"}}
    assert changes["Other"]["Details"][0]["Target"]["AfterValue"] == "{{changeSet:KNOWN_AFTER_APPLY}}"


async def test_executing_one_makes_the_stack_and_the_next_one_updates_it(stacks):
    await stacks.call(
        "CreateChangeSet",
        StackName="deployed",
        ChangeSetName="first",
        ChangeSetType="CREATE",
        TemplateBody=body(template(A=parameter("1"))),
    )
    reviewed = await stacks.stack("deployed")
    await stacks.call("ExecuteChangeSet", StackName="deployed", ChangeSetName="first")
    created = await stacks.ended("deployed")
    await stacks.call(
        "CreateChangeSet",
        StackName="deployed",
        ChangeSetName="second",
        TemplateBody=body(template(A=parameter("2"))),
    )
    await stacks.call("ExecuteChangeSet", StackName="deployed", ChangeSetName="second")
    updated = await stacks.ended("deployed")

    statuses = (reviewed["StackStatus"], created["StackStatus"], updated["StackStatus"])
    assert statuses == ("REVIEW_IN_PROGRESS", "CREATE_COMPLETE", "UPDATE_COMPLETE")
    again = await stacks.refused("ExecuteChangeSet", StackName="deployed", ChangeSetName="second")
    assert again == (
        "InvalidChangeSetStatus",
        f"ChangeSet [{updated['ChangeSetId']}] cannot be executed in its current execution status of "
        "[EXECUTE_COMPLETE]",
    )


async def test_what_is_asked_again_by_its_token_is_the_same_request(stacks):
    await stacks.create("again", template(A=parameter("1")))
    wanted = {"StackName": "again", "ChangeSetName": "next", "TemplateBody": body(template(A=parameter("2")))}

    first = await stacks.call("CreateChangeSet", **wanted, ClientToken="t")
    second = await stacks.call("CreateChangeSet", **wanted, ClientToken="t")
    other = await stacks.refused("CreateChangeSet", **wanted, ClientToken="u")
    execution = {"ChangeSetName": first["Id"], "ClientRequestToken": "e"}
    await stacks.call("ExecuteChangeSet", **execution)
    await stacks.call("ExecuteChangeSet", **execution)
    executed = await stacks.ended("again")
    update = {
        "StackName": "again",
        "TemplateBody": body(template(A=parameter("3"))),
        "ClientRequestToken": "u",
    }
    updates = [await stacks.call("UpdateStack", **update) for _ in range(2)]
    updated = await stacks.ended("again")

    assert first == second
    assert other == ("AlreadyExistsException", "ChangeSet next already exists")
    assert (executed["StackStatus"], updated["StackStatus"]) == ("UPDATE_COMPLETE", "UPDATE_COMPLETE")
    assert updates == [{"StackId": updated["StackId"]}] * 2
    statuses = [status for name, status, _ in await stacks.events("again") if name == "again"]
    assert statuses.count("UPDATE_IN_PROGRESS") == 2


async def test_one_without_changes_fails_and_says_so(stacks):
    text = body(template(A=parameter("1")))
    await stacks.create("same", text)

    await stacks.call("CreateChangeSet", StackName="same", ChangeSetName="none", TemplateBody=text)
    (summary,) = (await stacks.call("ListChangeSets", StackName="same"))["Summaries"]
    await stacks.call("DeleteChangeSet", StackName="same", ChangeSetName="none")

    assert (summary["Status"], summary["ExecutionStatus"], summary["StatusReason"]) == (
        "FAILED",
        "UNAVAILABLE",
        "The submitted information didn't contain changes. Submit different information to create a "
        "change set.",
    )
    assert await stacks.refused("DescribeChangeSet", StackName="same", ChangeSetName="none") == (
        "ChangeSetNotFound",
        "ChangeSet [none] does not exist",
    )


async def test_one_for_a_stack_that_has_changed_since_is_obsolete(stacks):
    await stacks.create("moved", template(A=parameter("1")))
    for name, value in (("first", "2"), ("second", "3")):
        wanted = body(template(A=parameter(value)))
        await stacks.call("CreateChangeSet", StackName="moved", ChangeSetName=name, TemplateBody=wanted)

    await stacks.call("ExecuteChangeSet", StackName="moved", ChangeSetName="first")
    await stacks.ended("moved")
    refused = await stacks.refused("ExecuteChangeSet", StackName="moved", ChangeSetName="second")
    wanted = body(template(A=parameter("4")))
    await stacks.call("CreateChangeSet", StackName="moved", ChangeSetName="third", TemplateBody=wanted)
    await stacks.update("moved", template(A=parameter("5")))
    (_, _, third) = (await stacks.call("ListChangeSets", StackName="moved"))["Summaries"]

    assert refused[0] == "InvalidChangeSetStatus"
    assert refused[1].endswith("cannot be executed in its current execution status of [OBSOLETE]")
    assert third["ExecutionStatus"] == "OBSOLETE"


async def test_one_of_a_stack_that_is_deleted_goes_with_it(stacks):
    wanted = body(template(A=parameter("1")))
    made = await stacks.call(
        "CreateChangeSet", StackName="x", ChangeSetName="c", ChangeSetType="CREATE", TemplateBody=wanted
    )
    await stacks.delete("x")

    assert await stacks.refused("ExecuteChangeSet", ChangeSetName=made["Id"]) == (
        "ChangeSetNotFound",
        f"ChangeSet [{made['Id']}] does not exist",
    )


async def test_a_new_stack_that_fails_is_deleted_where_the_change_set_says_so(stacks):
    await stacks.create("first", template(A=parameter("1", Name="taken")))
    made = await stacks.call(
        "CreateChangeSet",
        StackName="new",
        ChangeSetName="c",
        ChangeSetType="CREATE",
        OnStackFailure="DELETE",
        TemplateBody=body(template(Good=parameter("1", Name="good"), Bad=parameter("2", Name="taken"))),
    )

    await stacks.call("ExecuteChangeSet", ChangeSetName=made["Id"])
    ended = await stacks.ended(made["StackId"])

    assert ended["StackStatus"] == "DELETE_COMPLETE"
    assert ("Bad", "CREATE_FAILED") in [event[:2] for event in await stacks.events(made["StackId"])]
    assert await stacks.refused("DescribeStacks", StackName="new") == (
        "ValidationError",
        "Stack with id new does not exist",
    )
    left = await stacks.call("DescribeParameters", service="ssm")
    assert [parameter["Name"] for parameter in left["Parameters"]] == ["taken"]
