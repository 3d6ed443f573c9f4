"""Endpoints in a stack: waited for by their announcements; one that went back by itself is a failure."""

import asyncio
from typing import Any

from stagegate.local.service import Announcement, AWSError, Service
from tests.local.stacks.conftest import body, resource, template


class Endpoints(Service):
    """SageMaker's models, configs and endpoints, which come into service when a test says so."""

    models: set[str]
    configs: set[str]
    endpoints: dict[str, dict[str, Any]]
    asked: asyncio.Event
    broken: set[str]
    """Configs with which an endpoint never comes into service."""
    held: bool

    def create_model(self, *, ModelName, **rest):
        self.models.add(ModelName)
        return {"ModelArn": self.runtime.arn("sagemaker", f"model/{ModelName.lower()}")}

    def delete_model(self, *, ModelName):
        self.models.remove(ModelName)

    def create_endpoint_config(self, *, EndpointConfigName, ProductionVariants, **rest):
        assert ProductionVariants[0]["ModelName"] in self.models
        self.configs.add(EndpointConfigName)
        return {"EndpointConfigArn": self.runtime.arn("sagemaker", f"endpoint-config/{EndpointConfigName}")}

    def delete_endpoint_config(self, *, EndpointConfigName):
        in_use = {endpoint["EndpointConfigName"] for endpoint in self.endpoints.values()}
        assert EndpointConfigName not in in_use
        self.configs.remove(EndpointConfigName)

    def create_endpoint(self, *, EndpointName, EndpointConfigName, **rest):
        arn = self.runtime.arn("sagemaker", f"endpoint/{EndpointName}")
        self.endpoints[EndpointName] = {
            "EndpointName": EndpointName,
            "EndpointArn": arn,
            "EndpointConfigName": EndpointConfigName,
            "EndpointStatus": "Creating",
        }
        self._go_on(EndpointName, EndpointConfigName)
        return {"EndpointArn": arn}

    def update_endpoint(self, *, EndpointName, EndpointConfigName, **rest):
        self.endpoints[EndpointName]["EndpointStatus"] = "Updating"
        self._go_on(EndpointName, EndpointConfigName)
        return {"EndpointArn": self.endpoints[EndpointName]["EndpointArn"]}

    def describe_endpoint(self, *, EndpointName):
        if EndpointName not in self.endpoints:
            raise AWSError("ValidationException", f'Could not find endpoint "{EndpointName}".')
        return self.endpoints[EndpointName]

    def delete_endpoint(self, *, EndpointName):
        if EndpointName not in self.endpoints:
            raise AWSError("ValidationException", f'Could not find endpoint "{EndpointName}".')
        if self.endpoints[EndpointName]["EndpointStatus"] in ("Creating", "Updating"):
            raise AWSError("ValidationException", f"Cannot update in-progress endpoint {EndpointName}.")
        del self.endpoints[EndpointName]

    def list_tags(self, *, ResourceArn):
        return {"Tags": []}

    def _go_on(self, name, config):
        self.asked.set()
        if not self.held:
            asyncio.get_running_loop().call_soon(self.settle, name, config)

    def settle(self, name, config):
        endpoint = self.endpoints[name]
        if config in self.broken or any(config.startswith(prefix) for prefix in self.broken):
            updating = endpoint["EndpointStatus"] == "Updating"
            endpoint["EndpointStatus"] = "InService" if updating else "Failed"
            endpoint["FailureReason"] = "The container did not answer the ping."
        else:
            endpoint.update(EndpointStatus="InService", EndpointConfigName=config)
        self.runtime.announce(
            Announcement(
                source="aws.sagemaker",
                detail_type="SageMaker Endpoint State Change",
                detail={"EndpointName": name},
                resources=(endpoint["EndpointArn"],),
            )
        )


def endpoints_service(**members):
    defaults = {
        "models": set(), "configs": set(), "endpoints": {}, "asked": asyncio.Event(), "broken": set(),
        "held": False,
    }  # fmt: skip
    return type("Sagemaker", (Endpoints,), {**defaults, **members})


def serving(image, instance="ml.m5.large"):
    variant = {
        "VariantName": "AllTraffic", "ModelName": {"Fn::GetAtt": ["Model", "ModelName"]},
        "InstanceType": instance, "InitialInstanceCount": "1",
    }  # fmt: skip
    return template(
        Model=resource(
            "AWS::SageMaker::Model",
            ExecutionRoleArn="arn:aws:iam::111111111111:role/endpoints",
            PrimaryContainer={"ModelPackageName": image},
        ),
        Config=resource("AWS::SageMaker::EndpointConfig", ProductionVariants=[variant]),
        Endpoint=resource(
            "AWS::SageMaker::Endpoint",
            EndpointName="production",
            EndpointConfigName={"Fn::GetAtt": ["Config", "EndpointConfigName"]},
        ),
    )


PACKAGE = "arn:aws:sagemaker:us-east-1:111111111111:model-package/models/{}"


async def test_an_update_moves_the_endpoint_before_the_old_config_and_model_go(open_stacks):
    sagemaker = endpoints_service()
    async with open_stacks(sagemaker=(sagemaker,)) as stacks:
        created = await stacks.create("serving", serving(PACKAGE.format(1)))
        first = dict(sagemaker.endpoints["production"])
        updated = await stacks.update("serving", serving(PACKAGE.format(2)))
        second = dict(sagemaker.endpoints["production"])
        left = (set(sagemaker.models), set(sagemaker.configs))
        physical = await stacks.physical("serving")
        deleted = await stacks.delete("serving")

    statuses = (created["StackStatus"], updated["StackStatus"], deleted["StackStatus"])
    assert statuses == ("CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE")
    assert first["EndpointConfigName"] != second["EndpointConfigName"]
    assert (len(left[0]), left[1]) == (1, {second["EndpointConfigName"]})
    assert physical["Endpoint"] == "arn:aws:sagemaker:us-east-1:111111111111:endpoint/production"
    assert (sagemaker.models, sagemaker.configs, sagemaker.endpoints) == (set(), set(), {})


async def test_an_endpoint_that_goes_back_by_itself_fails_the_update(open_stacks):
    sagemaker = endpoints_service()
    async with open_stacks(sagemaker=(sagemaker,)) as stacks:
        await stacks.create("serving", serving(PACKAGE.format(1)))
        before = (set(sagemaker.models), set(sagemaker.configs), dict(sagemaker.endpoints["production"]))
        physical = await stacks.physical("serving")
        sagemaker.broken = {"serving-Config-"}
        stack = await stacks.update("serving", serving(PACKAGE.format(2)))
        after = await stacks.physical("serving")
        failed = [event for event in await stacks.events("serving") if event[1] == "UPDATE_FAILED"]

    now = sagemaker.endpoints["production"]
    assert (stack["StackStatus"], after) == ("UPDATE_ROLLBACK_COMPLETE", physical)
    assert (sagemaker.models, sagemaker.configs) == before[:2]
    assert now["EndpointConfigName"] == before[2]["EndpointConfigName"]
    ((name, _, reason),) = failed
    assert name == "Endpoint"
    config = now["EndpointConfigName"]
    went_back = f"Endpoint production went back to endpoint config {config}: The container did not answer"
    assert went_back in reason


async def test_an_endpoint_that_fails_leaves_nothing_behind(open_stacks):
    sagemaker = endpoints_service(broken={"serving-Config-"})
    async with open_stacks(sagemaker=(sagemaker,)) as stacks:
        stack = await stacks.create("serving", serving(PACKAGE.format(1)))
        failed = [event for event in await stacks.events("serving") if event[1] == "CREATE_FAILED"]

    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "Endpoint production is Failed: The container did not answer the ping." in failed[0][2]
    assert (sagemaker.models, sagemaker.configs, sagemaker.endpoints) == (set(), set(), {})


async def test_an_endpoint_is_not_waited_for_when_another_resource_fails(open_stacks):
    sagemaker = endpoints_service(held=True)
    text = serving(PACKAGE.format(1))
    text["Resources"]["Broken"] = {
        **resource("AWS::SSM::Parameter", Type="Strange", Value="x"), "DependsOn": "Slow",
    }  # fmt: skip
    text["Resources"]["Slow"] = {**resource("AWS::SQS::Queue"), "DependsOn": "Config"}
    async with open_stacks(sagemaker=(sagemaker,)) as stacks:
        await stacks.call("CreateStack", StackName="serving", TemplateBody=body(text))
        await stacks.reaches("serving", "Endpoint", "DELETE_IN_PROGRESS")
        (service,) = stacks.endpoint.services["sagemaker"]
        service.settle("production", sagemaker.endpoints["production"]["EndpointConfigName"])
        stack = await stacks.ended("serving")
        failed = {
            event[0]: event[2] for event in await stacks.events("serving") if event[1] == "CREATE_FAILED"
        }

    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert failed["Endpoint"] == "Resource creation cancelled"
    assert (sagemaker.models, sagemaker.configs, sagemaker.endpoints) == (set(), set(), {})


async def test_an_update_that_was_under_way_at_a_restart_is_waited_for(open_stacks):
    sagemaker = endpoints_service()
    async with open_stacks(sagemaker=(sagemaker,)) as stacks:
        await stacks.create("serving", serving(PACKAGE.format(1)))
        sagemaker.held = True
        sagemaker.asked.clear()
        await stacks.call("UpdateStack", StackName="serving", TemplateBody=body(serving(PACKAGE.format(2))))
        await asyncio.wait_for(sagemaker.asked.wait(), 10)
    before = sagemaker.endpoints["production"]["EndpointConfigName"]
    (wanted,) = sagemaker.configs - {before}

    async with open_stacks(sagemaker=(sagemaker,)) as stacks:
        (service,) = stacks.endpoint.services["sagemaker"]
        asyncio.get_running_loop().call_later(0, service.settle, "production", wanted)
        stack = await stacks.ended("serving")

    assert stack["StackStatus"] == "UPDATE_COMPLETE"
    assert sagemaker.endpoints["production"]["EndpointConfigName"] == wanted
    assert sagemaker.configs == {wanted}
