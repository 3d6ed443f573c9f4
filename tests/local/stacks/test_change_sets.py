"""Change sets: what they say of an update, and that executing one makes it."""

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
        f"ChangeSet [{updated['ChangeSetId']}] cannot be executed in its current status of [CREATE_COMPLETE]",
    )


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
