"""AWS::SageMaker: model package groups, models, endpoint configs, and endpoints that come into service."""

import json
from typing import Any

from stagegate.local.service import AWSError
from stagegate.local.stacks.intrinsics import text
from stagegate.local.stacks.resources.kind import (
    Attributes,
    Context,
    NotStabilized,
    Properties,
    ResourceType,
    picked,
    properties,
    update_tags,
)

_MODEL = (
    "ModelName PrimaryContainer Containers ExecutionRoleArn EnableNetworkIsolation VpcConfig "
    "InferenceExecutionConfig"
)
_CONFIG = (
    "EndpointConfigName ProductionVariants DataCaptureConfig KmsKeyId AsyncInferenceConfig ExplainerConfig "
    "ShadowProductionVariants ExecutionRoleArn VpcConfig EnableNetworkIsolation"
)


async def _gone(call: Any) -> None:
    """A deletion of what may not be there: SageMaker says so with a ValidationException."""
    try:
        await call
    except AWSError as error:
        missing = "could not find" in error.message.lower() or "does not exist" in error.message.lower()
        if error.code not in ("ResourceNotFound", "ResourceNotFoundException") and not missing:
            raise


async def _update_tags(context: Context, arn: str, old: Properties, new: Properties) -> None:
    await update_tags(
        context,
        old,
        new,
        put=lambda tags: context(
            "sagemaker", "AddTags", ResourceArn=arn, Tags=[{"Key": key, "Value": tags[key]} for key in tags]
        ),
        remove=lambda keys: context("sagemaker", "DeleteTags", ResourceArn=arn, TagKeys=keys),
    )


async def _create_group(context: Context, wanted: Properties) -> Attributes:
    answer = await context(
        "sagemaker",
        "CreateModelPackageGroup",
        Tags=context.merged_tags(wanted),
        **picked(wanted, "ModelPackageGroupName ModelPackageGroupDescription"),
    )
    arn = answer["ModelPackageGroupArn"]
    context.made(arn)
    await _put_group_policy(context, wanted)
    described = await context(
        "sagemaker", "DescribeModelPackageGroup", ModelPackageGroupName=wanted["ModelPackageGroupName"]
    )
    return {
        "ModelPackageGroupArn": arn,
        "ModelPackageGroupStatus": described["ModelPackageGroupStatus"],
        "CreationTime": str(described["CreationTime"]),
    }


async def _put_group_policy(context: Context, wanted: Properties) -> None:
    if policy := wanted.get("ModelPackageGroupPolicy"):
        await context(
            "sagemaker",
            "PutModelPackageGroupPolicy",
            ModelPackageGroupName=wanted["ModelPackageGroupName"],
            ResourcePolicy=policy if isinstance(policy, str) else json.dumps(policy),
        )


async def _update_group(context: Context, arn: str, old: Properties, new: Properties) -> None:
    await _update_tags(context, arn, old, new)
    if old.get("ModelPackageGroupPolicy") == new.get("ModelPackageGroupPolicy"):
        return
    await _put_group_policy(context, new)
    if "ModelPackageGroupPolicy" not in new:
        name = new["ModelPackageGroupName"]
        await context("sagemaker", "DeleteModelPackageGroupPolicy", ModelPackageGroupName=name)


async def _delete_group(context: Context, arn: str | None, had: Properties) -> None:
    name = had["ModelPackageGroupName"]
    await _gone(context("sagemaker", "DeleteModelPackageGroup", ModelPackageGroupName=name))


def _container(given: dict[str, Any]) -> dict[str, Any]:
    if "Environment" not in given:
        return given
    return {**given, "Environment": {name: text(value) for name, value in given["Environment"].items()}}


async def _create_model(context: Context, wanted: Properties) -> Attributes:
    members = picked(wanted, _MODEL)
    if "PrimaryContainer" in members:
        members["PrimaryContainer"] = _container(members["PrimaryContainer"])
    if "Containers" in members:
        members["Containers"] = [_container(container) for container in members["Containers"]]
    answer = await context("sagemaker", "CreateModel", Tags=context.merged_tags(wanted), **members)
    context.made(answer["ModelArn"])
    return {"ModelArn": answer["ModelArn"], "ModelName": wanted["ModelName"]}


async def _update_model(context: Context, arn: str, old: Properties, new: Properties) -> None:
    await _update_tags(context, arn, old, new)


async def _delete_model(context: Context, arn: str | None, had: Properties) -> None:
    await _gone(context("sagemaker", "DeleteModel", ModelName=had["ModelName"]))


async def _create_config(context: Context, wanted: Properties) -> Attributes:
    answer = await context(
        "sagemaker", "CreateEndpointConfig", Tags=context.merged_tags(wanted), **picked(wanted, _CONFIG)
    )
    arn = answer["EndpointConfigArn"]
    context.made(arn)
    return {"EndpointConfigArn": arn, "EndpointConfigName": wanted["EndpointConfigName"]}


async def _update_config(context: Context, arn: str, old: Properties, new: Properties) -> None:
    await _update_tags(context, arn, old, new)


async def _delete_config(context: Context, arn: str | None, had: Properties) -> None:
    await _gone(context("sagemaker", "DeleteEndpointConfig", EndpointConfigName=had["EndpointConfigName"]))


_SETTLED = frozenset({"InService", "Failed", "OutOfService", "UpdateRollbackFailed"})


async def _create_endpoint(context: Context, wanted: Properties) -> Attributes:
    arn = context.runtime.arn("sagemaker", f"endpoint/{wanted['EndpointName'].lower()}")
    with context.hearing(arn) as changed:
        answer = await context(
            "sagemaker",
            "CreateEndpoint",
            Tags=context.merged_tags(wanted),
            **picked(wanted, "EndpointName EndpointConfigName DeploymentConfig"),
        )
        context.made(answer["EndpointArn"])
        await _in_service(context, wanted, changed)
    return {"EndpointArn": answer["EndpointArn"], "EndpointName": wanted["EndpointName"]}


async def _update_endpoint(context: Context, arn: str, old: Properties, new: Properties) -> None:
    with context.hearing(arn) as changed:
        endpoint = await _settled(context, new, changed)  # an update may be under way after a restart
        if endpoint["EndpointConfigName"] != new["EndpointConfigName"]:
            await context(
                "sagemaker",
                "UpdateEndpoint",
                **picked(
                    new,
                    "EndpointName EndpointConfigName DeploymentConfig RetainAllVariantProperties "
                    "ExcludeRetainedVariantProperties RetainDeploymentConfig",
                ),
            )
            await _in_service(context, new, changed)
    await _update_tags(context, arn, old, new)


async def _settled(context: Context, wanted: Properties, changed: Any) -> dict[str, Any]:
    while True:
        endpoint = await context("sagemaker", "DescribeEndpoint", EndpointName=wanted["EndpointName"])
        if endpoint["EndpointStatus"] in _SETTLED:
            return endpoint
        await changed()


async def _in_service(context: Context, wanted: Properties, changed: Any) -> None:
    """An endpoint that rolled back by itself is InService too: its config tells."""
    endpoint = await _settled(context, wanted, changed)
    name, status = wanted["EndpointName"], endpoint["EndpointStatus"]
    if status != "InService":
        raise NotStabilized(
            f"Endpoint {name} is {status}: {endpoint.get('FailureReason', 'no reason given')}"
        )
    if endpoint["EndpointConfigName"] != wanted["EndpointConfigName"]:
        raise NotStabilized(
            f"Endpoint {name} went back to endpoint config {endpoint['EndpointConfigName']}: "
            f"{endpoint.get('FailureReason', 'no reason given')}"
        )


async def _delete_endpoint(context: Context, arn: str | None, had: Properties) -> None:
    """One that is being created or updated is waited for, since SageMaker deletes none that is."""
    name = had["EndpointName"]
    with context.hearing(arn or context.runtime.arn("sagemaker", f"endpoint/{name.lower()}")) as changed:
        while (status := await _status(context, name)) is not None:
            if status in _SETTLED:
                await _gone(context("sagemaker", "DeleteEndpoint", EndpointName=name))
            else:
                await changed()


async def _status(context: Context, name: str) -> str | None:
    try:
        endpoint = await context("sagemaker", "DescribeEndpoint", EndpointName=name)
    except AWSError as error:
        if error.code not in ("ValidationException", "ResourceNotFound"):
            raise
        return None
    status: str = endpoint["EndpointStatus"]
    return status


TYPES = (
    ResourceType(
        name="AWS::SageMaker::ModelPackageGroup",
        supported=properties(
            "ModelPackageGroupDescription ModelPackageGroupName ModelPackageGroupPolicy Tags"
        ),
        create=_create_group,
        update=_update_group,
        delete=_delete_group,
        named_by="ModelPackageGroupName",
    ),
    ResourceType(
        name="AWS::SageMaker::Model",
        supported=properties(f"{_MODEL} Tags"),
        create=_create_model,
        update=_update_model,
        delete=_delete_model,
        named_by="ModelName",
        attributes=properties("ModelName"),
    ),
    ResourceType(
        name="AWS::SageMaker::EndpointConfig",
        supported=properties(f"{_CONFIG} Tags"),
        create=_create_config,
        update=_update_config,
        delete=_delete_config,
        named_by="EndpointConfigName",
        attributes=properties("EndpointConfigName"),
    ),
    ResourceType(
        name="AWS::SageMaker::Endpoint",
        supported=properties(
            "DeploymentConfig EndpointConfigName EndpointName ExcludeRetainedVariantProperties "
            "RetainAllVariantProperties RetainDeploymentConfig Tags"
        ),
        create=_create_endpoint,
        update=_update_endpoint,
        delete=_delete_endpoint,
        named_by="EndpointName",
        attributes=properties("EndpointName"),
    ),
)
