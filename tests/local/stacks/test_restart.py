"""The server ends in the middle of an operation; started again, the stack gets to its end."""

import asyncio

from stagegate.local.service import Service
from tests.local.stacks.conftest import body, resource, template

PARAMETER = "AWS::SSM::Parameter"


class SlowGroups(Service):
    """Model package groups that are made when they are let."""

    let: asyncio.Event
    made: list[str]
    asked: asyncio.Event

    async def create_model_package_group(self, *, ModelPackageGroupName, **rest):
        type(self).asked.set()
        await type(self).let.wait()
        type(self).made.append(ModelPackageGroupName)
        return {
            "ModelPackageGroupArn": self.runtime.arn(
                "sagemaker", f"model-package-group/{ModelPackageGroupName}"
            )
        }

    def describe_model_package_group(self, *, ModelPackageGroupName):
        return {"ModelPackageGroupStatus": "Completed", "CreationTime": "now"}

    def delete_model_package_group(self, *, ModelPackageGroupName):
        type(self).made = [name for name in type(self).made if name != ModelPackageGroupName]
        return {}


def slow_groups():
    return type("Groups", (SlowGroups,), {"let": asyncio.Event(), "asked": asyncio.Event(), "made": []})


def parameter(value, **more):
    return {**resource(PARAMETER, Type="String", Value=value), **more}


TEMPLATE = template(
    Before=parameter("1"),
    Group={
        **resource("AWS::SageMaker::ModelPackageGroup", ModelPackageGroupName="models"),
        "DependsOn": "Before",
    },
    After=parameter({"Ref": "Group"}),
)


async def test_a_creation_goes_on(open_stacks):
    groups = slow_groups()
    async with open_stacks(sagemaker=(groups,)) as stacks:
        await stacks.call("CreateStack", StackName="cut", TemplateBody=body(TEMPLATE))
        await asyncio.wait_for(groups.asked.wait(), 10)
        status = (await stacks.stack("cut"))["StackStatus"]

    groups.let.set()
    async with open_stacks(sagemaker=(groups,)) as stacks:
        stack = await stacks.ended("cut")
        physical = await stacks.physical("cut")
        left = (await stacks.call("DescribeParameters", "ssm"))["Parameters"]

    assert (status, stack["StackStatus"], groups.made) == (
        "CREATE_IN_PROGRESS",
        "CREATE_COMPLETE",
        ["models"],
    )
    assert sorted(it["Name"] for it in left) == sorted([physical["Before"], physical["After"]])


async def test_an_update_goes_on(open_stacks):
    groups = slow_groups()
    first = template(Before=parameter("1"), Old=parameter("o"))
    async with open_stacks(sagemaker=(groups,)) as stacks:
        await stacks.create("cut", first)
        second = {"Resources": {**TEMPLATE["Resources"], "Before": parameter("2")}}
        await stacks.call("UpdateStack", StackName="cut", TemplateBody=body(second))
        await asyncio.wait_for(groups.asked.wait(), 10)

    groups.let.set()
    async with open_stacks(sagemaker=(groups,)) as stacks:
        stack = await stacks.ended("cut")
        physical = await stacks.physical("cut")
        value = (await stacks.call("GetParameter", "ssm", Name=physical["Before"]))["Parameter"]["Value"]

    assert (stack["StackStatus"], value) == ("UPDATE_COMPLETE", "2")
    assert sorted(physical) == ["After", "Before", "Group"]


async def test_a_creation_that_is_under_way_can_be_deleted(open_stacks):
    groups = slow_groups()
    async with open_stacks(sagemaker=(groups,)) as stacks:
        await stacks.call("CreateStack", StackName="cut", TemplateBody=body(TEMPLATE))
        await asyncio.wait_for(groups.asked.wait(), 10)

        stack = await stacks.delete("cut")
        left = (await stacks.call("DescribeParameters", "ssm"))["Parameters"]

    assert (stack["StackStatus"], left, groups.made) == ("DELETE_COMPLETE", [], [])
