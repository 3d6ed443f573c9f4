"""Stacks from creation to deletion: statuses and events in AWS's words, and what stays after a failure."""

import pytest

from tests.local.stacks.conftest import body, resource, template

QUEUE = "AWS::SQS::Queue"
PARAMETER = "AWS::SSM::Parameter"


def parameter(value, **more):
    return {**resource(PARAMETER, Type="String", Value=value), **more}


async def test_a_stack_is_created_with_its_events_outputs_and_generated_names(stacks):
    text = {
        "Description": "Two queues",
        "Parameters": {"Delay": {"Type": "Number", "Default": 5}},
        "Resources": {
            "Dead": resource(QUEUE, QueueName="dead-letters"),
            "Work": resource(
                QUEUE,
                DelaySeconds={"Ref": "Delay"},
                RedrivePolicy={"deadLetterTargetArn": {"Fn::GetAtt": ["Dead", "Arn"]}, "maxReceiveCount": 3},
            ),
        },
        "Outputs": {
            "Url": {"Value": {"Ref": "Work"}, "Export": {"Name": {"Fn::Sub": "${AWS::StackName}-url"}}}
        },
    }

    stack = await stacks.create(
        "queues", text, Parameters={"Delay": "7"}, Tags=[{"Key": "team", "Value": "ml"}]
    )

    physical = await stacks.physical("queues")
    name = physical["Work"].rsplit("/", 1)[-1]
    attributes = await stacks.call(
        "GetQueueAttributes", "sqs", QueueUrl=physical["Work"], AttributeNames=["All"]
    )
    assert stack == {
        "StackId": stack["StackId"],
        "StackName": "queues",
        "Description": "Two queues",
        "CreationTime": stack["CreationTime"],
        "StackStatus": "CREATE_COMPLETE",
        "DisableRollback": False,
        "EnableTerminationProtection": False,
        "Parameters": [{"ParameterKey": "Delay", "ParameterValue": "7"}],
        "Capabilities": [],
        "Tags": [{"Key": "team", "Value": "ml"}],
        "Outputs": [{"OutputKey": "Url", "OutputValue": physical["Work"], "ExportName": "queues-url"}],
        "NotificationARNs": [],
        "RollbackConfiguration": {},
        "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
    }
    assert name.startswith("queues-Work-")
    assert len(name) == len("queues-Work-") + 12
    assert attributes["Attributes"]["DelaySeconds"] == "7"
    assert await stacks.events("queues") == [
        ("queues", "CREATE_IN_PROGRESS", "User Initiated"),
        ("Dead", "CREATE_IN_PROGRESS", ""),
        ("Dead", "CREATE_IN_PROGRESS", "Resource creation Initiated"),
        ("Dead", "CREATE_COMPLETE", ""),
        ("Work", "CREATE_IN_PROGRESS", ""),
        ("Work", "CREATE_IN_PROGRESS", "Resource creation Initiated"),
        ("Work", "CREATE_COMPLETE", ""),
        ("queues", "CREATE_COMPLETE", ""),
    ]
    assert (await stacks.call("ListExports"))["Exports"] == [
        {"ExportingStackId": stack["StackId"], "Name": "queues-url", "Value": physical["Work"]}
    ]


async def test_a_failed_creation_is_rolled_back_and_says_what_failed(stacks):
    await stacks.call("PutParameter", "ssm", Name="taken", Type="String", Value="mine")
    text = template(
        First=parameter("1", Properties={"Name": "first", "Type": "String", "Value": "1"}),
        Kept=parameter("k", DeletionPolicy="Retain", DependsOn="First"),
        Second={
            **resource(PARAMETER, Name="taken", Type="String", Value="2"),
            "DependsOn": ["First", "Kept"],
        },
        Third=parameter("3", DependsOn="Second"),
    )

    stack = await stacks.create("broken", text)

    events = await stacks.events("broken")
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert [event[:2] for event in events[-8:]] == [
        ("Second", "CREATE_IN_PROGRESS"),
        ("Second", "CREATE_FAILED"),
        ("broken", "ROLLBACK_IN_PROGRESS"),
        ("Second", "DELETE_COMPLETE"),
        ("Kept", "DELETE_SKIPPED"),
        ("First", "DELETE_IN_PROGRESS"),
        ("First", "DELETE_COMPLETE"),
        ("broken", "ROLLBACK_COMPLETE"),
    ]
    reasons = {event[:2]: event[2] for event in events}
    assert "HandlerErrorCode: AlreadyExists" in reasons["Second", "CREATE_FAILED"]
    assert reasons["broken", "ROLLBACK_IN_PROGRESS"] == (
        "The following resource(s) failed to create: [Second]. Rollback requested by user."
    )
    left = (await stacks.call("DescribeParameters", "ssm"))["Parameters"]
    assert sorted(it["Name"][:12] for it in left) == ["broken-Kept-", "taken"]
    assert await stacks.refused("UpdateStack", StackName="broken", Template=text) == (
        "ValidationError",
        f"Stack:{stack['StackId']} is in ROLLBACK_COMPLETE state and can not be updated.",
    )
    assert (await stacks.delete("broken"))["StackStatus"] == "DELETE_COMPLETE"


@pytest.mark.parametrize(
    ("on_failure", "status", "left"), [("DO_NOTHING", "CREATE_FAILED", 1), ("DELETE", "DELETE_COMPLETE", 0)]
)
async def test_a_failed_creation_may_be_left_or_deleted(stacks, on_failure, status, left):
    text = template(A=parameter("1"), B={**resource(PARAMETER, Type="Strange", Value="2"), "DependsOn": "A"})

    answer = await stacks.call(
        "CreateStack", StackName="failed", TemplateBody=body(text), OnFailure=on_failure
    )
    stack = await stacks.ended(answer["StackId"])

    assert stack["StackStatus"] == status
    assert len((await stacks.call("DescribeParameters", "ssm"))["Parameters"]) == left


async def test_an_update_changes_in_place_replaces_adds_and_removes(stacks):
    first = template(
        Changed=parameter("1"),
        Renamed=resource(PARAMETER, Name="old-name", Type="String", Value="r"),
        Removed=parameter("x"),
        Same=parameter("s"),
    )
    await stacks.create("changing", first)
    before = await stacks.physical("changing")
    count = len(await stacks.events("changing"))
    second = template(
        Changed=parameter("2"),
        Renamed=resource(PARAMETER, Name="new-name", Type="String", Value="r"),
        Same=parameter("s"),
        Added=resource(PARAMETER, Type="String", Value={"Fn::Sub": "${Renamed} ${Changed.Value}"}),
    )

    stack = await stacks.update("changing", second)

    after = await stacks.physical("changing")
    values = {
        name: (await stacks.call("GetParameter", "ssm", Name=physical))["Parameter"]["Value"]
        for name, physical in after.items()
    }
    events = (await stacks.events("changing"))[count:]
    assert stack["StackStatus"] == "UPDATE_COMPLETE"
    assert (after["Changed"], after["Renamed"], after["Same"]) == (
        before["Changed"], "new-name", before["Same"],
    )  # fmt: skip
    assert values == {"Changed": "2", "Renamed": "r", "Same": "s", "Added": "new-name 2"}
    assert len((await stacks.call("DescribeParameters", "ssm"))["Parameters"]) == 4
    assert events[0] == ("changing", "UPDATE_IN_PROGRESS", "User Initiated")
    assert (
        "Renamed",
        "UPDATE_IN_PROGRESS",
        "Requested update requires the creation of a new physical resource; hence creating one.",
    ) in events
    clean_up = events.index(("changing", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", ""))
    assert sorted(event[:2] for event in events[clean_up + 1 : -1]) == [
        ("Removed", "DELETE_COMPLETE"),
        ("Removed", "DELETE_IN_PROGRESS"),
        ("Renamed", "DELETE_COMPLETE"),
        ("Renamed", "DELETE_IN_PROGRESS"),
    ]
    assert events[-1] == ("changing", "UPDATE_COMPLETE", "")


async def test_a_failed_update_goes_back_to_what_was(stacks):
    first = template(
        Changed=parameter("1"), Renamed=resource(PARAMETER, Name="old-name", Type="String", Value="r")
    )
    created = await stacks.create("undone", {**first, "Outputs": {"V": {"Value": "one"}}})
    before = await stacks.physical("undone")
    count = len(await stacks.events("undone"))
    second = template(
        Changed=parameter("2"),
        Renamed=resource(PARAMETER, Name="new-name", Type="String", Value="r"),
        Added=parameter("a", DependsOn=["Changed", "Renamed"]),
        Broken={**resource(PARAMETER, Type="Strange", Value="b"), "DependsOn": "Added"},
    )

    stack = await stacks.update("undone", {**second, "Outputs": {"V": {"Value": "two"}}})

    events = (await stacks.events("undone"))[count:]
    names = {it["Name"] for it in (await stacks.call("DescribeParameters", "ssm"))["Parameters"]}
    value = await stacks.call("GetParameter", "ssm", Name=before["Changed"])
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert stack["Outputs"] == created["Outputs"]
    assert await stacks.physical("undone") == before
    assert (names, value["Parameter"]["Value"]) == (set(before.values()), "1")
    assert (
        "undone",
        "UPDATE_ROLLBACK_IN_PROGRESS",
        "The following resource(s) failed to create: [Broken]. ",
    ) in events
    assert [event[:2] for event in events if event[0] == "undone"] == [
        ("undone", "UPDATE_IN_PROGRESS"),
        ("undone", "UPDATE_ROLLBACK_IN_PROGRESS"),
        ("undone", "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS"),
        ("undone", "UPDATE_ROLLBACK_COMPLETE"),
    ]
    assert await stacks.refused(
        "UpdateStack", StackName="undone", Template={**first, "Outputs": {"V": {"Value": "one"}}}
    ) == ("ValidationError", "No updates are to be performed.")
    assert (await stacks.update("undone", template(Changed=parameter("3"))))[
        "StackStatus"
    ] == "UPDATE_COMPLETE"


async def test_a_name_that_is_given_blocks_a_replacement(stacks):
    group = resource("AWS::SQS::Queue", QueueName="same.fifo", FifoQueue=True)
    await stacks.create("named", template(Queue=group))

    stack = await stacks.update("named", template(Queue=resource("AWS::SQS::Queue", QueueName="same.fifo")))

    reasons = [event for event in await stacks.events("named") if event[1] == "UPDATE_FAILED"]
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert reasons == [
        (
            "Queue",
            "UPDATE_FAILED",
            "CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename "
            "same.fifo and update the stack again.",
        )
    ]


async def test_policies_keep_what_an_update_or_a_deletion_takes_away(stacks):
    def kept(name):
        return {
            **resource(PARAMETER, Name=name, Type="String", Value="k"),
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
        }

    await stacks.create("keeping", template(Kept=kept("one"), Other=parameter("o")))
    await stacks.update("keeping", template(Kept=kept("two"), Other=parameter("o")))
    stack = await stacks.delete("keeping")

    skipped = [event[:2] for event in await stacks.events(stack["StackId"]) if event[1] == "DELETE_SKIPPED"]
    left = (await stacks.call("DescribeParameters", "ssm"))["Parameters"]
    assert stack["StackStatus"] == "DELETE_COMPLETE"
    assert skipped == [("Kept", "DELETE_SKIPPED"), ("Kept", "DELETE_SKIPPED")]
    assert sorted(it["Name"] for it in left) == ["one", "two"]


async def test_a_deletion_that_fails_can_be_tried_again(stacks):
    await stacks.create("full", template(Bucket=resource("AWS::S3::Bucket", BucketName="full-bucket")))
    await stacks.call("PutObject", "s3", Bucket="full-bucket", Key="k", Body=b"x")

    failed = await stacks.delete("full")
    await stacks.call("DeleteObject", "s3", Bucket="full-bucket", Key="k")
    deleted = await stacks.delete("full")

    assert (failed["StackStatus"], failed["StackStatusReason"]) == (
        "DELETE_FAILED",
        "The following resource(s) failed to delete: [Bucket]. ",
    )
    assert deleted["StackStatus"] == "DELETE_COMPLETE"
    assert await stacks.refused("DescribeStacks", StackName="full") == (
        "ValidationError",
        "Stack with id full does not exist",
    )


async def test_what_cannot_be_had_is_refused_before_anything_is_created(stacks):
    role = resource("AWS::IAM::Role", AssumeRolePolicyDocument={"Statement": []})
    named = resource("AWS::IAM::Role", RoleName="r", AssumeRolePolicyDocument={"Statement": []})
    refused = {
        "a type that is not there": template(A=resource("AWS::EC2::VPC"), B=resource("AWS::My::Thing")),
        "a property that is not honoured": template(A=resource("AWS::S3::Bucket", CorsConfiguration={})),
        "an attribute that is not there": template(
            A=resource("AWS::SNS::Topic"), B=parameter({"Fn::GetAtt": ["A", "Colour"]})
        ),
        "a role without a capability": template(A=role),
        "a named role without its capability": template(A=named),
    }

    answers = {
        why: await stacks.refused("CreateStack", StackName="no", Template=text)
        for why, text in refused.items()
    }

    assert answers == {
        "a type that is not there": (
            "ValidationError",
            "Template format error: Unrecognized resource types: [AWS::EC2::VPC, AWS::My::Thing] (the local "
            "runtime has no such types)",
        ),
        "a property that is not honoured": (
            "ValidationError",
            "The property CorsConfiguration of AWS::S3::Bucket (A) is not supported by the local runtime.",
        ),
        "an attribute that is not there": (
            "ValidationError",
            "Template error: resource A does not support attribute type Colour in Fn::GetAtt",
        ),
        "a role without a capability": (
            "InsufficientCapabilitiesException",
            "Requires capabilities : [CAPABILITY_IAM]",
        ),
        "a named role without its capability": (
            "InsufficientCapabilitiesException",
            "Requires capabilities : [CAPABILITY_NAMED_IAM]",
        ),
    }
    assert (await stacks.call("ListStacks"))["StackSummaries"] == []


async def test_a_property_that_the_type_does_not_have_fails_its_resource(stacks):
    await stacks.create("typo", template(Queue=resource(QUEUE, QueueNam="q")))

    assert ("Queue", "CREATE_FAILED", "Encountered unsupported property QueueNam") in await stacks.events(
        "typo"
    )


async def test_states_are_checked(stacks):
    text = template(A=parameter("1"))
    first = await stacks.call(
        "CreateStack", StackName="busy", TemplateBody=body(text), ClientRequestToken="t"
    )

    again = await stacks.refused("CreateStack", StackName="busy", Template=text)
    same = await stacks.call("CreateStack", StackName="busy", TemplateBody=body(text), ClientRequestToken="t")
    updating = await stacks.refused("UpdateStack", StackName="busy", Template=text)
    await stacks.ended("busy")

    assert again == ("AlreadyExistsException", "Stack [busy] already exists")
    assert same == first
    assert updating == (
        "ValidationError",
        f"Stack:{first['StackId']} is in CREATE_IN_PROGRESS state and can not be updated.",
    )
    assert await stacks.refused("UpdateStack", StackName="none", Template=text) == (
        "ValidationError",
        "Stack [none] does not exist",
    )
    assert await stacks.call("DeleteStack", StackName="none") == {}


async def test_an_export_in_use_keeps_its_stack(stacks):
    exporting = {
        **template(A=parameter("shared")),
        "Outputs": {"V": {"Value": {"Fn::GetAtt": ["A", "Value"]}, "Export": {"Name": "shared-value"}}},
    }
    importing = template(B=parameter({"Fn::ImportValue": "shared-value"}))
    await stacks.create("exporter", exporting)
    await stacks.create("importer", importing)

    refused = await stacks.refused("DeleteStack", StackName="exporter")
    imports = await stacks.call("ListImports", ExportName="shared-value")
    await stacks.delete("importer")
    deleted = await stacks.delete("exporter")

    assert refused == ("ValidationError", "Export shared-value cannot be deleted as it is in use by importer")
    assert imports == {"Imports": ["importer"]}
    assert deleted["StackStatus"] == "DELETE_COMPLETE"


async def test_dynamic_references_are_resolved_and_not_kept(stacks):
    secret = await stacks.call(
        "CreateSecret", "secretsmanager", Name="db", SecretString='{"password": "s3cret"}'
    )
    await stacks.call("PutParameter", "ssm", Name="region", Type="String", Value="north")
    written = "{{resolve:ssm:region}}/{{resolve:secretsmanager:db:SecretString:password}}"
    by_arn = f"{{{{resolve:secretsmanager:{secret['ARN']}:SecretString:password}}}}"

    await stacks.create("dynamic", template(A=parameter(written), B=parameter(by_arn)))

    physical = await stacks.physical("dynamic")
    values = [
        (await stacks.call("GetParameter", "ssm", Name=physical[name]))["Parameter"]["Value"] for name in "AB"
    ]
    assert values == ["north/s3cret", "s3cret"]
    kept = stacks.endpoint.store.list("cloudformation/resource")
    assert kept[0]["Properties"]["Value"] == written


async def test_templates_come_from_the_bucket_by_every_form_of_url(stacks):
    text = body(template(A=parameter("1")))
    await stacks.call("CreateBucket", "s3", Bucket="templates")
    await stacks.call("PutObject", "s3", Bucket="templates", Key="a/b.json", Body=text.encode())
    urls = [
        "https://templates.s3.amazonaws.com/a/b.json",
        "https://templates.s3.us-east-1.amazonaws.com/a/b.json",
        "https://s3.amazonaws.com/templates/a/b.json",
        "https://s3.us-east-1.amazonaws.com/templates/a/b.json",
        "http://127.0.0.1:4566/templates/a/b.json",
    ]

    for number, url in enumerate(urls):
        await stacks.call("CreateStack", StackName=f"from-url-{number}", TemplateURL=url)
        assert (await stacks.ended(f"from-url-{number}"))["StackStatus"] == "CREATE_COMPLETE"

    assert (await stacks.call("GetTemplate", StackName="from-url-0"))["TemplateBody"] == text
    assert await stacks.refused("CreateStack", StackName="x", TemplateURL="https://example.com/t.json") == (
        "ValidationError",
        "S3 error: Domain name specified in example.com is not a valid S3 domain",
    )


async def test_statuses_are_announced(stacks):
    stack = await stacks.create("announced", template(A=parameter("1")))

    told = [
        (it.detail_type, it.detail.get("logical-resource-id"), it.detail["status-details"]["status"])
        for it in stacks.announced
        if it.source == "aws.cloudformation"
    ]
    assert told == [
        ("CloudFormation Stack Status Change", None, "CREATE_IN_PROGRESS"),
        ("CloudFormation Resource Status Change", "A", "CREATE_IN_PROGRESS"),
        ("CloudFormation Resource Status Change", "A", "CREATE_IN_PROGRESS"),
        ("CloudFormation Resource Status Change", "A", "CREATE_COMPLETE"),
        ("CloudFormation Stack Status Change", None, "CREATE_COMPLETE"),
    ]
    assert all(it.resources == (stack["StackId"],) for it in stacks.announced)
