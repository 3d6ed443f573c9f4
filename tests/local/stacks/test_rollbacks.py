"""Rollbacks that fail and are continued, time limits, and what an operation made that stays."""

import asyncio
from datetime import timedelta

import pytest

from stagegate.local.service import AWSError, Service
from tests.local.stacks.conftest import body, resource, template
from tests.local.stacks.test_endpoints import PACKAGE, endpoints_service, serving


class FailingGroups(Service):
    """Model package groups that are asked for, and refused when the test lets them."""

    let: asyncio.Event
    asked: asyncio.Event

    async def create_model_package_group(self, **members):
        self.asked.set()
        await self.let.wait()
        raise AWSError("ResourceLimitExceeded", "no more groups")


def failing_groups():
    return type("Groups", (FailingGroups,), {"let": asyncio.Event(), "asked": asyncio.Event()})


def queue(seconds):
    return resource("AWS::SQS::Queue", QueueName="work", VisibilityTimeout=seconds)


def parameter(name, **more):
    return {**resource("AWS::SSM::Parameter", Name=name, Type="String", Value="x"), **more}


GROUP = {
    **resource("AWS::SageMaker::ModelPackageGroup", ModelPackageGroupName="models"),
    "DependsOn": "Queue",
}


async def left_half_back(stacks, groups):
    """A stack whose rollback has failed: the queue that it would change back is gone; gives its URL."""
    await stacks.create("half", template(Queue=queue(10)))
    url = (await stacks.physical("half"))["Queue"]
    wanted = body(template(Queue=queue(20), Group=GROUP))
    await stacks.call("UpdateStack", StackName="half", TemplateBody=wanted)
    await asyncio.wait_for(groups.asked.wait(), 10)
    await stacks.call("DeleteQueue", service="sqs", QueueUrl=url)
    groups.let.set()
    stack = await stacks.ended("half")
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_FAILED"
    assert stack["StackStatusReason"] == "The following resource(s) failed to update: [Queue]. "
    return url


async def test_a_rollback_goes_on_when_what_kept_it_is_put_right(open_stacks):
    groups = failing_groups()
    async with open_stacks(sagemaker=(groups,)) as stacks:
        url = await left_half_back(stacks, groups)
        await stacks.call("CreateQueue", service="sqs", QueueName="work")

        await stacks.call("ContinueUpdateRollback", StackName="half")
        stack = await stacks.ended("half")
        answer = await stacks.call(
            "GetQueueAttributes", service="sqs", QueueUrl=url, AttributeNames=["VisibilityTimeout"]
        )

    assert (stack["StackStatus"], answer["Attributes"]) == (
        "UPDATE_ROLLBACK_COMPLETE",
        {"VisibilityTimeout": "10"},
    )


async def test_a_resource_that_cannot_be_put_back_is_skipped(open_stacks):
    groups = failing_groups()
    async with open_stacks(sagemaker=(groups,)) as stacks:
        url = await left_half_back(stacks, groups)
        refused = await stacks.refused("ContinueUpdateRollback", StackName="half", ResourcesToSkip=["Group"])

        await stacks.call("ContinueUpdateRollback", StackName="half", ResourcesToSkip=["Queue"])
        stack = await stacks.ended("half")
        (found,) = (await stacks.call("DescribeStackResources", StackName="half"))["StackResources"]

    assert refused == (
        "ValidationError",
        "The following resource(s) cannot be skipped: [Group]. ResourcesToSkip takes the logical ids of "
        "resources in UPDATE_FAILED: [Queue]",
    )
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert (found["PhysicalResourceId"], found["ResourceStatus"]) == (url, "UPDATE_COMPLETE")


async def test_a_creation_that_takes_too_long_is_rolled_back(open_stacks, monkeypatch):
    monkeypatch.setattr(
        "stagegate.local.stacks.deploy.timedelta", lambda minutes: timedelta(seconds=2 * minutes)
    )
    sagemaker = endpoints_service(held=True)
    async with open_stacks(sagemaker=(sagemaker,)) as stacks:
        await stacks.call(
            "CreateStack",
            StackName="slow",
            TemplateBody=body(serving(PACKAGE.format(1))),
            TimeoutInMinutes=1,
        )
        await stacks.reaches("slow", "Endpoint", "DELETE_IN_PROGRESS")
        (service,) = stacks.endpoint.services["sagemaker"]
        service.settle("production", sagemaker.endpoints["production"]["EndpointConfigName"])
        stack = await stacks.ended("slow")
        events = await stacks.events("slow")

    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert ("slow", "ROLLBACK_IN_PROGRESS") in [event[:2] for event in events]
    reasons = [event[2] for event in events if event[1] == "ROLLBACK_IN_PROGRESS"]
    assert reasons == [
        "Stack creation time exceeded the specified timeout. Rollback requested by user.",
    ]
    assert sagemaker.endpoints == {}


@pytest.mark.parametrize(("given", "left"), [(False, ["kept", "taken"]), (True, ["taken"])])
async def test_what_a_failed_creation_made_stays_only_where_it_is_retained(stacks, given, left):
    await stacks.create("before", template(It=parameter("taken")))

    stack = await stacks.create(
        "failing",
        template(
            Kept=parameter("kept", DeletionPolicy="Retain"),
            Gone=parameter("gone", DeletionPolicy="RetainExceptOnCreate", DependsOn="Kept"),
            Bad=parameter("taken", DependsOn="Gone"),
        ),
        RetainExceptOnCreate=given,
    )

    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert await names(stacks) == left


@pytest.mark.parametrize(("given", "left"), [(False, ["kept", "taken"]), (True, ["taken"])])
async def test_what_a_failed_update_made_stays_only_where_it_is_retained(stacks, given, left):
    await stacks.create("failing", template(It=parameter("taken")))

    stack = await stacks.update(
        "failing",
        template(
            It=parameter("taken"),
            Kept=parameter("kept", DeletionPolicy="Retain"),
            Bad=parameter("taken", DependsOn="Kept"),
        ),
        RetainExceptOnCreate=given,
    )

    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert await names(stacks) == left


async def names(stacks):
    answer = await stacks.call("DescribeParameters", service="ssm")
    return sorted(found["Name"] for found in answer["Parameters"])


async def test_a_stack_policy_is_refused_by_its_name(stacks):
    code, message = await stacks.refused(
        "CreateStack", StackName="x", Template=template(A=parameter("a")), StackPolicyBody="{}"
    )

    assert code == "ValidationException"
    assert message == (
        "CreateStack: the member StackPolicyBody is not supported by Stagegate's local runtime."
    )
